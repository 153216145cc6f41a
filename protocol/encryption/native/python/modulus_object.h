/* The Python type Modulus: arithmetic modulo n^2. Needs all_paths and path_runs. */

#ifndef KERNEL_MODULUS_OBJECT_H
#define KERNEL_MODULUS_OBJECT_H

#include "arguments.h"

typedef struct {
    PyObject_HEAD
    Modulus modulus;
} ModulusObject;

typedef struct {
    PyTypeObject *modulus_type;
} ModuleState;

static size_t element_bytes(const Modulus *modulus) { return modulus->limbs * sizeof(uint64_t); }

static PyObject *modulus_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"n", "path", NULL};
    PyObject *n_object;
    const char *name;
    const Path *path = NULL;
    Buffers buffers = {.count = 0};

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "Os:Modulus", names, &n_object, &name))
        return NULL;
    for (int i = 0; all_paths[i]; i++)
        if (strcmp(all_paths[i]->name, name) == 0 && path_runs(all_paths[i]))
            path = all_paths[i];
    if (!path)
        return PyErr_Format(PyExc_ValueError, "this machine has no path %s", name);
    const Py_buffer *n = take(&buffers, n_object, BYTES, 0, "n");
    if (!n)
        return NULL;
    const uint8_t *bytes = n->buf;
    size_t size = (size_t)n->len;
    while (size && !bytes[size - 1])
        size--;
    if (!size || !(bytes[0] & 1) || size > MOST_BITS / 8 || (size == 1 && bytes[0] == 1)) {
        PyErr_Format(PyExc_ValueError, "n must be odd, above 1 and of at most %d bits", (int)MOST_BITS);
        return finish(&buffers, NULL);
    }
    ModulusObject *self = (ModulusObject *)type->tp_alloc(type, 0);
    if (self && modulus_init(&self->modulus, path, bytes, size) != DONE) {
        Py_DECREF(self);
        self = NULL;
        PyErr_NoMemory();
    }
    return finish(&buffers, (PyObject *)self);
}

static void modulus_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    modulus_free(&((ModulusObject *)self)->modulus);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *modulus_load(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"data", "width", "out", NULL};
    const Modulus *modulus = &((ModulusObject *)self)->modulus;
    PyObject *data_object, *out_object;
    Py_ssize_t width, count;
    Buffers buffers = {.count = 0};
    const Py_buffer *data, *out;
    Status status;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OnO:load", names, &data_object, &width, &out_object))
        return NULL;
    if (width < 1)
        return PyErr_Format(PyExc_ValueError, "width must be positive");
    if (!(data = take(&buffers, data_object, BYTES, 0, "data"))
        || (count = count_items(data, (size_t)width, "data")) < 0
        || !(out = take(&buffers, out_object, WORDS, 1, "out"))
        || !check_length(out, (size_t)count, element_bytes(modulus), "out"))
        return finish(&buffers, NULL);
    Py_BEGIN_ALLOW_THREADS
    status = modulus->path->load(modulus, data->buf, (size_t)width, (size_t)count, out->buf);
    Py_END_ALLOW_THREADS
    return finish(&buffers, result_of(status, "a number is not below n^2"));
}

/* `store` and `high` differ in the smallest width and the function. */
static PyObject *convert_out(PyObject *self, PyObject *args, PyObject *keywords, int only_high)
{
    static char *names[] = {"elements", "width", "out", NULL};
    const Modulus *modulus = &((ModulusObject *)self)->modulus;
    const size_t least = only_high ? (modulus->bits + 7) / 8 : (2 * modulus->bits + 7) / 8;
    PyObject *elements_object, *out_object;
    Py_ssize_t width, count;
    Buffers buffers = {.count = 0};
    const Py_buffer *elements, *out;
    Status status;

    if (!PyArg_ParseTupleAndKeywords(
            args, keywords, "OnO", names, &elements_object, &width, &out_object))
        return NULL;
    if (width < 1 || (size_t)width < least)
        return PyErr_Format(PyExc_ValueError, "width must be at least %zu", least);
    if (!(elements = take(&buffers, elements_object, WORDS, 0, "elements"))
        || (count = count_items(elements, element_bytes(modulus), "elements")) < 0
        || !(out = take(&buffers, out_object, BYTES, 1, "out"))
        || !check_length(out, (size_t)count, (size_t)width, "out"))
        return finish(&buffers, NULL);
    Py_BEGIN_ALLOW_THREADS
    status = (only_high ? modulus->path->high : modulus->path->store)(
        modulus, elements->buf, (size_t)width, (size_t)count, out->buf);
    Py_END_ALLOW_THREADS
    return finish(&buffers, result_of(status, ""));
}

static PyObject *modulus_store(PyObject *self, PyObject *args, PyObject *keywords)
{
    return convert_out(self, args, keywords, 0);
}

static PyObject *modulus_high(PyObject *self, PyObject *args, PyObject *keywords)
{
    return convert_out(self, args, keywords, 1);
}

static PyObject *modulus_multiply(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"a", "b", "out", NULL};
    const Modulus *modulus = &((ModulusObject *)self)->modulus;
    PyObject *a_object, *b_object, *out_object;
    Py_ssize_t count, b_count;
    Buffers buffers = {.count = 0};
    const Py_buffer *a, *b, *out;
    Status status;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OOO:multiply", names, &a_object, &b_object, &out_object))
        return NULL;
    if (!(a = take(&buffers, a_object, WORDS, 0, "a"))
        || (count = count_items(a, element_bytes(modulus), "a")) < 0
        || !(b = take(&buffers, b_object, WORDS, 0, "b"))
        || (b_count = count_items(b, element_bytes(modulus), "b")) < 0
        || !(out = take(&buffers, out_object, WORDS, 1, "out"))
        || !check_length(out, (size_t)count, element_bytes(modulus), "out"))
        return finish(&buffers, NULL);
    if (b_count != 1 && b_count != count) {
        PyErr_SetString(PyExc_ValueError, "b must hold as many elements as a, or one");
        return finish(&buffers, NULL);
    }
    Py_BEGIN_ALLOW_THREADS
    status = modulus->path->multiply(modulus, a->buf, b->buf, (size_t)b_count, (size_t)count, out->buf);
    Py_END_ALLOW_THREADS
    return finish(&buffers, result_of(status, ""));
}

static PyObject *modulus_power(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"elements", "exponent", "out", NULL};
    const Modulus *modulus = &((ModulusObject *)self)->modulus;
    PyObject *elements_object, *exponent_object, *out_object;
    Py_ssize_t count;
    Buffers buffers = {.count = 0};
    const Py_buffer *elements, *exponent, *out;
    PowerPlan plan;
    Status status;

    if (!PyArg_ParseTupleAndKeywords(
            args, keywords, "OOO:power", names, &elements_object, &exponent_object, &out_object))
        return NULL;
    if (!(elements = take(&buffers, elements_object, WORDS, 0, "elements"))
        || (count = count_items(elements, element_bytes(modulus), "elements")) < 0
        || !(exponent = take(&buffers, exponent_object, BYTES, 0, "exponent"))
        || !(out = take(&buffers, out_object, WORDS, 1, "out"))
        || !check_length(out, (size_t)count, element_bytes(modulus), "out"))
        return finish(&buffers, NULL);
    if (exponent->len > MOST_BITS) {
        PyErr_Format(PyExc_ValueError, "exponent must have at most %d bytes", (int)MOST_BITS);
        return finish(&buffers, NULL);
    }
    /* A copy: the schedule is read from it several times, and must not change in between. */
    uint8_t copy[MOST_BITS];
    memcpy(copy, exponent->buf, (size_t)exponent->len);
    Py_BEGIN_ALLOW_THREADS
    status = plan_power(&plan, copy, (size_t)exponent->len);
    if (status == DONE) {
        status = modulus->path->power(modulus, elements->buf, &plan, (size_t)count, out->buf);
        free(plan.steps);
    }
    Py_END_ALLOW_THREADS
    return finish(&buffers, result_of(status, ""));
}

static PyObject *modulus_dense(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"elements", "matrix", "rows", "columns", "out_magnitude", "out_sign", NULL};
    const Modulus *modulus = &((ModulusObject *)self)->modulus;
    const size_t size = element_bytes(modulus);
    PyObject *elements_object, *matrix_object, *magnitude_object, *sign_object;
    Py_ssize_t rows, columns;
    Buffers buffers = {.count = 0};
    const Py_buffer *elements, *matrix, *magnitude, *sign;
    Status status;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OOnnOO:dense", names, &elements_object, &matrix_object,
            &rows, &columns, &magnitude_object, &sign_object))
        return NULL;
    if (rows < 0 || columns < 0 || (columns && rows > PY_SSIZE_T_MAX / 2 / columns))
        return PyErr_Format(PyExc_ValueError, "no matrix is %zd x %zd", rows, columns);
    if (!(elements = take(&buffers, elements_object, WORDS, 0, "elements"))
        || !check_length(elements, (size_t)rows, size, "elements")
        || !(matrix = take(&buffers, matrix_object, INT16, 0, "matrix"))
        || !check_length(matrix, (size_t)rows * (size_t)columns, sizeof(int16_t), "matrix")
        || !(magnitude = take(&buffers, magnitude_object, WORDS, 1, "out_magnitude"))
        || !check_length(magnitude, (size_t)columns, size, "out_magnitude")
        || !(sign = take(&buffers, sign_object, WORDS, 1, "out_sign"))
        || !check_length(sign, (size_t)columns, size, "out_sign"))
        return finish(&buffers, NULL);
    Py_BEGIN_ALLOW_THREADS
    status = modulus->path->dense(
        modulus, elements->buf, matrix->buf, (size_t)rows, (size_t)columns, magnitude->buf, sign->buf);
    Py_END_ALLOW_THREADS
    return finish(&buffers, result_of(status, ""));
}

static PyObject *modulus_dense_plan(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"rows", "columns", NULL};
    Py_ssize_t rows, columns;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "nn:dense_plan", names, &rows, &columns))
        return NULL;
    if (rows < 1 || columns < 1 || rows > PY_SSIZE_T_MAX / PLANES || columns > PY_SSIZE_T_MAX / (2 * PLANES))
        return PyErr_Format(PyExc_ValueError, "rows and columns must be positive");
    DensePlan plan = plan_dense(((ModulusObject *)self)->modulus.path->lanes, (size_t)rows, (size_t)columns);
    return Py_BuildValue("snnd", plan.by_rows ? "rows" : "columns", (Py_ssize_t)plan.group,
        (Py_ssize_t)plan.strips, plan.cost);
}

static PyObject *modulus_sparse(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"elements", "indptr", "indices", "columns", "out", NULL};
    const Modulus *modulus = &((ModulusObject *)self)->modulus;
    const size_t size = element_bytes(modulus);
    PyObject *elements_object, *indptr_object, *indices_object, *out_object;
    Py_ssize_t columns, count;
    Buffers buffers = {.count = 0};
    const Py_buffer *elements, *indptr, *indices, *out;
    Status status;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OOOnO:sparse", names, &elements_object, &indptr_object,
            &indices_object, &columns, &out_object))
        return NULL;
    if (columns < 0 || columns > PY_SSIZE_T_MAX / 16)
        return PyErr_Format(PyExc_ValueError, "columns is %zd", columns);
    if (!(elements = take(&buffers, elements_object, WORDS, 0, "elements"))
        || (count = count_items(elements, size, "elements")) < 0
        || !(indptr = take(&buffers, indptr_object, INT64, 0, "indptr"))
        || !check_length(indptr, (size_t)columns + 1, sizeof(int64_t), "indptr")
        || !(indices = take(&buffers, indices_object, INT64, 0, "indices"))
        || !(out = take(&buffers, out_object, WORDS, 1, "out"))
        || !check_length(out, (size_t)columns, size, "out"))
        return finish(&buffers, NULL);
    /* A copy: what is checked here must not change later. */
    int64_t *starts = malloc((size_t)indptr->len);
    if (!starts)
        return finish(&buffers, PyErr_NoMemory());
    memcpy(starts, indptr->buf, (size_t)indptr->len);
    int valid = starts[0] == 0 && starts[columns] == (int64_t)(indices->len / (Py_ssize_t)sizeof(int64_t));
    for (Py_ssize_t column = 0; column < columns; column++)
        valid &= starts[column] <= starts[column + 1];
    if (!valid) {
        free(starts);
        PyErr_SetString(PyExc_ValueError, "indptr must rise from 0 to the number of indices");
        return finish(&buffers, NULL);
    }
    Py_BEGIN_ALLOW_THREADS
    status = modulus->path->sparse(
        modulus, elements->buf, (size_t)count, starts, indices->buf, (size_t)columns, out->buf);
    free(starts);
    Py_END_ALLOW_THREADS
    return finish(&buffers, result_of(status, "an index is no row of elements"));
}

static PyObject *modulus_get_element_bytes(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromSize_t(element_bytes(&((ModulusObject *)self)->modulus));
}

static PyObject *modulus_get_bits(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromSize_t(((ModulusObject *)self)->modulus.bits);
}

static PyObject *modulus_get_path(PyObject *self, void *unused)
{
    (void)unused;
    return PyUnicode_FromString(((ModulusObject *)self)->modulus.path->name);
}

#define METHOD(name, function, doc) {name, (PyCFunction)(void (*)(void))(function), METH_VARARGS | METH_KEYWORDS, doc}

static PyMethodDef modulus_methods[] = {
    METHOD("load", modulus_load, "load(data, width, out): little-endian integers below n^2 to elements."),
    METHOD("store", modulus_store, "store(elements, width, out): elements to little-endian integers."),
    METHOD("high", modulus_high, "high(elements, width, out): of each residue x0 + x1 n, the digit x1."),
    METHOD("multiply", modulus_multiply, "multiply(a, b, out): products; b may hold one element for all."),
    METHOD("power", modulus_power, "power(elements, exponent, out): one little-endian exponent for all."),
    METHOD("dense", modulus_dense,
        "dense(elements, matrix, rows, columns, out_magnitude, out_sign): products of the planes of an int16 "
        "matrix, joined; the result is magnitude / sign."),
    METHOD("dense_plan", modulus_dense_plan,
        "dense_plan(rows, columns): the method, group size, strips and multiplications of a dense product."),
    METHOD("sparse", modulus_sparse,
        "sparse(elements, indptr, indices, columns, out): the product of each column's rows (CSC)."),
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef modulus_attributes[] = {
    {"element_bytes", modulus_get_element_bytes, NULL, "Bytes of one element.", NULL},
    {"bits", modulus_get_bits, NULL, "Bits of n.", NULL},
    {"path", modulus_get_path, NULL, "The path the arithmetic takes.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot modulus_slots[] = {
    {Py_tp_new, modulus_new},
    {Py_tp_dealloc, modulus_dealloc},
    {Py_tp_methods, modulus_methods},
    {Py_tp_getset, modulus_attributes},
    {Py_tp_doc, "Modulus(n, path): arithmetic modulo n^2 for an odd n, little-endian."},
    {0, NULL},
};

static PyType_Spec modulus_spec = {
    .name = "protocol.encryption._kernel.Modulus",
    .basicsize = sizeof(ModulusObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = modulus_slots,
};

#endif
