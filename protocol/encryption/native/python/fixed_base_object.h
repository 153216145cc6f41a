/* The Python type FixedBase: powers of one element, by a comb. */

#ifndef KERNEL_FIXED_BASE_OBJECT_H
#define KERNEL_FIXED_BASE_OBJECT_H

#include "modulus_object.h"

enum { MOST_ROWS = 16, MOST_TABLES = 64, MOST_EXPONENT_BITS = 1 << 16, MOST_TABLE_BYTES = 1 << 30 };

typedef struct {
    PyObject_HEAD
    ModulusObject *modulus;
    Comb comb;
} FixedBaseObject;

static PyObject *fixed_base_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"modulus", "base_element", "exponent_bits", "rows", "tables", NULL};
    PyObject *modulus_object, *base_object;
    Py_ssize_t exponent_bits, rows, tables;
    Buffers buffers = {.count = 0};
    Status status = NO_MEMORY;

    const ModuleState *state = PyType_GetModuleState(type);
    if (!state
        || !PyArg_ParseTupleAndKeywords(args, keywords, "O!Onnn:FixedBase", names, state->modulus_type,
            &modulus_object, &base_object, &exponent_bits, &rows, &tables))
        return NULL;
    if (exponent_bits < 1 || exponent_bits > MOST_EXPONENT_BITS || rows < 1 || rows > MOST_ROWS || tables < 1
        || tables > MOST_TABLES)
        return PyErr_Format(PyExc_ValueError,
            "expected exponent_bits from 1 to %d, rows to %d and tables to %d", (int)MOST_EXPONENT_BITS,
            (int)MOST_ROWS, (int)MOST_TABLES);
    const Modulus *modulus = &((ModulusObject *)modulus_object)->modulus;
    if (((size_t)tables << rows) * element_bytes(modulus) > MOST_TABLE_BYTES)
        return PyErr_Format(PyExc_ValueError, "the tables would have more than %d bytes", (int)MOST_TABLE_BYTES);
    const Py_buffer *base = take(&buffers, base_object, WORDS, 0, "base_element");
    if (!base || !check_length(base, 1, element_bytes(modulus), "base_element"))
        return finish(&buffers, NULL);
    FixedBaseObject *self = (FixedBaseObject *)type->tp_alloc(type, 0);
    if (!self)
        return finish(&buffers, NULL);
    Comb *comb = &self->comb;
    self->modulus = (ModulusObject *)Py_NewRef(modulus_object);
    comb->exponent_bits = (size_t)exponent_bits;
    comb->exponent_bytes = (comb->exponent_bits + 7) / 8;
    comb->rows = (size_t)rows;
    comb->tables = (size_t)tables;
    comb->columns = (comb->exponent_bits + comb->rows * comb->tables - 1) / (comb->rows * comb->tables);
    comb->entries = allocate_aligned(comb->tables << comb->rows, element_bytes(modulus), &comb->memory);
    if (comb->entries) {
        Py_BEGIN_ALLOW_THREADS
        status = modulus->path->comb_build(modulus, comb, base->buf);
        Py_END_ALLOW_THREADS
    }
    if (status != DONE) {
        Py_DECREF(self);
        return finish(&buffers, PyErr_NoMemory());
    }
    return finish(&buffers, (PyObject *)self);
}

static void fixed_base_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    FixedBaseObject *fixed_base = (FixedBaseObject *)self;
    free(fixed_base->comb.memory);
    Py_XDECREF(fixed_base->modulus);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *fixed_base_powers(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"exponents", "exponent_bytes", "out", NULL};
    const Comb *comb = &((FixedBaseObject *)self)->comb;
    const Modulus *modulus = &((FixedBaseObject *)self)->modulus->modulus;
    PyObject *exponents_object, *out_object;
    Py_ssize_t exponent_bytes, count;
    Buffers buffers = {.count = 0};
    const Py_buffer *exponents, *out;
    Status status;

    if (!PyArg_ParseTupleAndKeywords(
            args, keywords, "OnO:powers", names, &exponents_object, &exponent_bytes, &out_object))
        return NULL;
    if (exponent_bytes < 0 || (size_t)exponent_bytes != comb->exponent_bytes)
        return PyErr_Format(PyExc_ValueError, "exponent_bytes must be %zu", comb->exponent_bytes);
    if (!(exponents = take(&buffers, exponents_object, BYTES, 0, "exponents"))
        || (count = count_items(exponents, comb->exponent_bytes, "exponents")) < 0
        || !(out = take(&buffers, out_object, WORDS, 1, "out"))
        || !check_length(out, (size_t)count, element_bytes(modulus), "out"))
        return finish(&buffers, NULL);
    Py_BEGIN_ALLOW_THREADS
    status = modulus->path->comb_powers(modulus, comb, exponents->buf, (size_t)count, out->buf);
    Py_END_ALLOW_THREADS
    return finish(&buffers, result_of(status, ""));
}

static PyObject *fixed_base_get_modulus(PyObject *self, void *unused)
{
    (void)unused;
    return Py_NewRef((PyObject *)((FixedBaseObject *)self)->modulus);
}

static PyObject *fixed_base_get_table_bytes(PyObject *self, void *unused)
{
    (void)unused;
    const FixedBaseObject *fixed_base = (FixedBaseObject *)self;
    const Comb *comb = &fixed_base->comb;
    return PyLong_FromSize_t((comb->tables << comb->rows) * element_bytes(&fixed_base->modulus->modulus));
}

static PyObject *fixed_base_get_exponent_bytes(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromSize_t(((FixedBaseObject *)self)->comb.exponent_bytes);
}

static PyMethodDef fixed_base_methods[] = {
    METHOD("powers", fixed_base_powers,
        "powers(exponents, exponent_bytes, out): the base to each little-endian exponent."),
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef fixed_base_attributes[] = {
    {"modulus", fixed_base_get_modulus, NULL, "The modulus the base belongs to.", NULL},
    {"exponent_bytes", fixed_base_get_exponent_bytes, NULL, "Bytes of one exponent.", NULL},
    {"table_bytes", fixed_base_get_table_bytes, NULL, "Bytes of all tables.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot fixed_base_slots[] = {
    {Py_tp_new, fixed_base_new},
    {Py_tp_dealloc, fixed_base_dealloc},
    {Py_tp_methods, fixed_base_methods},
    {Py_tp_getset, fixed_base_attributes},
    {Py_tp_doc, "FixedBase(modulus, base_element, exponent_bits, rows, tables): powers of one base (Lim-Lee)."},
    {0, NULL},
};

static PyType_Spec fixed_base_spec = {
    .name = "protocol.encryption._kernel.FixedBase",
    .basicsize = sizeof(FixedBaseObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = fixed_base_slots,
};

#endif
