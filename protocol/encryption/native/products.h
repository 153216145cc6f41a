/* Products of chosen elements: dense and sparse integer matrices. plan.c chooses between the dense methods. */

enum { PARTS = PLANES / LANES, MOST_COLUMNS = 2048 };

/* The product of every subset of `count` values, `stride` words apart; bit i of an index: value i is in. */
TARGET static void subset_products(
    const Modulus *modulus, uint64_t *products, const uint64_t *values, size_t stride, size_t count)
{
    const size_t limbs = modulus->limbs;
    vec x[2 * MOST_DIGITS], value[2 * MOST_DIGITS];

    memcpy(products, modulus->one, limbs * sizeof *products);
    for (size_t number = 0; number < count; number++) {
        const size_t known = (size_t)1 << number;
        uint64_t *above = products + known * limbs;
        memcpy(above, values + number * stride, limbs * sizeof *above);
        if (number == 0)
            continue;
        broadcast(modulus, value, values + number * stride);
        /* Product 0 is one: the copy above stands. */
        for (size_t i = 1; i < known; i += LANES) {
            gather_block(modulus, x, products + i * limbs, known - i);
            multiply(modulus, x, x, value);
            scatter_block(modulus, above + i * limbs, x, known - i);
        }
    }
}

TARGET static void fill_with_one(const Modulus *modulus, uint64_t *elements, size_t count)
{
    for (size_t i = 0; i < count; i++)
        memcpy(elements + i * modulus->limbs, modulus->one, modulus->limbs * sizeof *elements);
}

/* Plane products by groups of rows ('four Russians'). `planes` receives PLANES elements a column; while
 * summing up it holds them as PARTS vectors of lanes a column. */
TARGET static Status dense_by_rows(const Modulus *modulus, uint64_t *planes, const uint64_t *elements,
    const int16_t *matrix, size_t stride, size_t rows, size_t columns, size_t group)
{
    const size_t limbs = modulus->limbs;
    vec entry[2 * MOST_DIGITS];
    void *memory;
    uint64_t *table = allocate_aligned(limbs << group, sizeof *table, &memory);
    if (!table)
        return NO_MEMORY;
    for (size_t start = 0; start < rows; start += group) {
        const size_t size = rows - start < group ? rows - start : group;
        subset_products(modulus, table, elements + start * limbs, limbs, size);
        for (size_t column = 0; column < columns; column++) {
            uint32_t index[PLANES] = {0};
            for (size_t row = 0; row < size; row++) {
                uint32_t value = (uint16_t)matrix[(start + row) * stride + column];
                for (size_t plane = 0; plane < PLANES; plane++)
                    index[plane] |= (value >> plane & 1) << row;
            }
            for (size_t part = 0; part < PARTS; part++) {
                vec *sum = (vec *)planes + (column * PARTS + part) * limbs;
                const uint64_t *source[LANES];
                uint32_t any = 0;
                for (size_t lane = 0; lane < LANES; lane++) {
                    any |= index[part * LANES + lane];
                    source[lane] = table + index[part * LANES + lane] * limbs;
                }
                if (start == 0) {
                    gather(modulus, sum, source);
                } else if (any) {
                    gather(modulus, entry, source);
                    multiply(modulus, sum, sum, entry);
                }
            }
        }
    }
    for (size_t part = 0; part < columns * PARTS; part++) {
        uint64_t *sum = planes + part * LANES * limbs;
        memcpy(entry, sum, limbs * sizeof *entry);
        scatter_block(modulus, sum, entry, LANES);
    }
    free(memory);
    return DONE;
}

/* Bits `first` to `first` + `size` - 1 of a row, read as one long number; size <= PLANES. */
static size_t row_bits(const int16_t *row, size_t columns, size_t first, size_t size)
{
    const size_t column = first / PLANES;
    uint32_t bits = (uint16_t)row[column];
    if (column + 1 < columns)
        bits |= (uint32_t)(uint16_t)row[column + 1] << PLANES;
    return (bits >> (first % PLANES)) & (((size_t)1 << size) - 1);
}

/* For each bit k of a bucket's number, the product of the buckets that have it, to target + k elements; every
 * lane has its own buckets, `lane_stride` words apart. Bucket 0 is not read; the others are overwritten. */
TARGET static void fold_buckets(const Modulus *modulus, uint64_t *buckets, size_t lane_stride, size_t group,
    uint64_t *const target[LANES], const size_t sizes[LANES])
{
    const size_t limbs = modulus->limbs;
    vec x[2 * MOST_DIGITS], product[2 * MOST_DIGITS], lower[2 * MOST_DIGITS];

    for (size_t bit = group; bit-- > 0;) {
        const size_t half = (size_t)1 << bit;
        for (size_t number = 0; number < half; number++) {
            const uint64_t *upper_source[LANES], *lower_source[LANES];
            uint64_t *lower_target[LANES];
            for (size_t lane = 0; lane < LANES; lane++) {
                lower_target[lane] = buckets + lane * lane_stride + number * limbs;
                lower_source[lane] = lower_target[lane];
                upper_source[lane] = lower_target[lane] + half * limbs;
            }
            if (number == 0) {
                gather(modulus, product, upper_source);
                continue;
            }
            gather(modulus, x, upper_source);
            multiply(modulus, product, product, x);
            gather(modulus, lower, lower_source);
            multiply(modulus, lower, lower, x);
            scatter(modulus, lower_target, lower);
        }
        uint64_t *bit_target[LANES];
        for (size_t lane = 0; lane < LANES; lane++)
            bit_target[lane] = bit < sizes[lane] ? target[lane] + bit * limbs : NULL;
        scatter(modulus, bit_target, product);
    }
}

/* Plane products by groups of planes: a value goes to the bucket that its row's bits in the group name
 * (Pippenger). A lane is a group over one of `strips` strips of the rows. */
TARGET static Status dense_by_columns(const Modulus *modulus, uint64_t *planes, const uint64_t *elements,
    const int16_t *matrix, size_t stride, size_t rows, size_t columns, size_t group, size_t strips)
{
    const size_t limbs = modulus->limbs, lane_stride = limbs << group;
    const size_t n_planes = columns * PLANES, groups = (n_planes + group - 1) / group;
    const size_t tasks = groups * strips, strip_rows = (rows + strips - 1) / strips;
    vec value[2 * MOST_DIGITS], bucket[2 * MOST_DIGITS];
    void *memory, *partial_memory;
    uint64_t *buckets = allocate_aligned(LANES * lane_stride, sizeof *buckets, &memory);
    uint64_t *partial = allocate_aligned((strips - 1) * n_planes * limbs, sizeof *partial, &partial_memory);
    if (!buckets || !partial) {
        free(memory);
        free(partial_memory);
        return NO_MEMORY;
    }

    for (size_t task = 0; task < tasks; task += LANES) {
        size_t first_plane[LANES], first_row[LANES], sizes[LANES];
        uint64_t *target[LANES];
        for (size_t lane = 0; lane < LANES; lane++) {
            const size_t strip = (task + lane) / groups;
            first_plane[lane] = (task + lane) % groups * group;
            first_row[lane] = strip * strip_rows;
            sizes[lane] = n_planes - first_plane[lane] < group ? n_planes - first_plane[lane] : group;
            if (strip >= strips)
                sizes[lane] = 0; /* no task is left for this lane */
            target[lane] = (strip == 0 ? planes : partial + (strip - 1) * n_planes * limbs)
                + first_plane[lane] * limbs;
        }
        fill_with_one(modulus, buckets, LANES << group);
        for (size_t step = 0; step < strip_rows; step++) {
            const uint64_t *value_source[LANES], *bucket_source[LANES];
            uint64_t *bucket_target[LANES];
            size_t any = 0;
            for (size_t lane = 0; lane < LANES; lane++) {
                const size_t row = first_row[lane] + step;
                size_t index = 0;
                value_source[lane] = modulus->one;
                if (sizes[lane] && row < rows) {
                    index = row_bits(matrix + row * stride, columns, first_plane[lane], sizes[lane]);
                    value_source[lane] = elements + row * limbs;
                }
                any |= index;
                bucket_target[lane] = buckets + lane * lane_stride + index * limbs;
                bucket_source[lane] = bucket_target[lane];
            }
            if (!any)
                continue;
            gather(modulus, value, value_source);
            gather(modulus, bucket, bucket_source);
            multiply(modulus, bucket, bucket, value);
            scatter(modulus, bucket_target, bucket);
        }
        fold_buckets(modulus, buckets, lane_stride, group, target, sizes);
    }
    for (size_t strip = 1; strip < strips; strip++)
        (void)path_multiply(
            modulus, planes, partial + (strip - 1) * n_planes * limbs, n_planes, n_planes, planes);
    free(memory);
    free(partial_memory);
    return DONE;
}

/* magnitude[j] = prod over b < 15 of plane[j, b]^(2^b), sign[j] = plane[j, 15]^(2^15). */
TARGET static void join_planes(
    const Modulus *modulus, const uint64_t *planes, size_t columns, uint64_t *magnitude, uint64_t *sign)
{
    const size_t limbs = modulus->limbs;
    vec x[2 * MOST_DIGITS], plane[2 * MOST_DIGITS];

    for (size_t start = 0; start < columns; start += LANES) {
        const uint64_t *source[LANES];
        for (size_t bit = PLANES; bit-- > 0;) {
            for (size_t lane = 0; lane < LANES; lane++) {
                const size_t column = start + lane < columns ? start + lane : start;
                source[lane] = planes + (column * PLANES + bit) * limbs;
            }
            if (bit == PLANES - 1) {
                gather(modulus, x, source);
                for (int i = 0; i < PLANES - 1; i++)
                    square(modulus, x, x);
                scatter_block(modulus, sign + start * limbs, x, columns - start);
            } else if (bit == PLANES - 2) {
                gather(modulus, x, source);
            } else {
                gather(modulus, plane, source);
                square(modulus, x, x);
                multiply(modulus, x, x, plane);
            }
        }
        scatter_block(modulus, magnitude + start * limbs, x, columns - start);
    }
}

/* In blocks of columns, which bound the memory for planes. */
TARGET static Status path_dense(const Modulus *modulus, const uint64_t *elements, const int16_t *matrix,
    size_t rows, size_t columns, uint64_t *magnitude, uint64_t *sign)
{
    const size_t limbs = modulus->limbs, most = columns < MOST_COLUMNS ? columns : MOST_COLUMNS;
    void *memory;
    if (rows == 0) {
        fill_with_one(modulus, magnitude, columns);
        fill_with_one(modulus, sign, columns);
        return DONE;
    }
    uint64_t *planes = allocate_aligned(most * PLANES * limbs, sizeof *planes, &memory);
    Status status = planes ? DONE : NO_MEMORY;
    for (size_t start = 0; start < columns && status == DONE; start += most) {
        const size_t size = columns - start < most ? columns - start : most;
        const DensePlan plan = plan_dense(LANES, rows, size);
        if (plan.by_rows)
            status = dense_by_rows(
                modulus, planes, elements, matrix + start, columns, rows, size, plan.group);
        else
            status = dense_by_columns(modulus, planes, elements, matrix + start, columns, rows, size,
                plan.group, plan.strips);
        if (status == DONE)
            join_planes(modulus, planes, size, magnitude + start * limbs, sign + start * limbs);
    }
    free(memory);
    return status;
}

/* A lane's share of a sparse product: entries [next, stop), of which `column_stop` ends the present column. */
typedef struct {
    size_t next, stop, column, column_stop;
    uint64_t *target; /* NULL: no column begun */
} Share;

/* Each lane takes an equal run of the entries, whatever columns they belong to. A run that begins inside a
 * column collects that column's product in `partial`. */
TARGET static Status path_sparse(const Modulus *modulus, const uint64_t *elements, size_t count,
    const int64_t *indptr, const int64_t *indices, size_t columns, uint64_t *out)
{
    const size_t limbs = modulus->limbs, entries = (size_t)indptr[columns];
    vec product[2 * MOST_DIGITS], value[2 * MOST_DIGITS];
    uint64_t *const words = (uint64_t *)product;
    uint64_t partial[LANES][2 * MOST_DIGITS];
    size_t partial_column[LANES];
    Share shares[LANES];

    fill_with_one(modulus, out, columns);
    broadcast(modulus, product, modulus->one);
    for (size_t lane = 0, column = 0; lane < LANES; lane++) {
        const size_t next = entries / LANES * lane + entries % LANES * lane / LANES;
        const size_t after = lane + 1;
        shares[lane] = (Share){next, entries / LANES * after + entries % LANES * after / LANES, 0, 0, NULL};
        while (column < columns && (size_t)indptr[column + 1] <= next)
            column++;
        shares[lane].column = column;
        shares[lane].column_stop = next;
        partial_column[lane] = column;
    }
    for (;;) {
        const uint64_t *source[LANES];
        int any = 0;
        for (size_t lane = 0; lane < LANES; lane++) {
            Share *share = &shares[lane];
            /* Columns end and begin; the first value of one is copied. */
            while (share->next == share->column_stop) {
                if (share->target) {
                    for (size_t i = 0; i < limbs; i++)
                        share->target[i] = words[i * LANES + lane];
                    share->target = NULL;
                }
                if (share->next == share->stop)
                    break;
                while ((size_t)indptr[share->column + 1] <= share->next)
                    share->column++;
                const size_t column_stop = (size_t)indptr[share->column + 1];
                share->column_stop = column_stop < share->stop ? column_stop : share->stop;
                share->target = (size_t)indptr[share->column] < share->next
                    ? partial[lane]
                    : out + share->column * limbs;
                const size_t row = (size_t)__atomic_load_n(indices + share->next++, __ATOMIC_RELAXED);
                if (row >= count)
                    return OUT_OF_RANGE;
                for (size_t i = 0; i < limbs; i++)
                    words[i * LANES + lane] = elements[row * limbs + i];
            }
            source[lane] = modulus->one;
            if (share->next < share->column_stop) {
                const size_t row = (size_t)__atomic_load_n(indices + share->next++, __ATOMIC_RELAXED);
                if (row >= count)
                    return OUT_OF_RANGE;
                source[lane] = elements + row * limbs;
                any = 1;
                if (share->next < share->stop) {
                    const size_t coming = (size_t)__atomic_load_n(indices + share->next, __ATOMIC_RELAXED);
                    if (coming < count)
                        prefetch(modulus, elements + coming * limbs);
                }
            }
        }
        if (!any)
            break;
        gather(modulus, value, source);
        multiply(modulus, product, product, value);
    }
    for (size_t lane = 0; lane < LANES; lane++) {
        const size_t begin = entries / LANES * lane + entries % LANES * lane / LANES;
        const size_t column = partial_column[lane];
        if (begin < shares[lane].stop && (size_t)indptr[column] < begin)
            (void)path_multiply(modulus, out + column * limbs, partial[lane], 1, 1, out + column * limbs);
    }
    return DONE;
}
