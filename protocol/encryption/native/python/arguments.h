/* What the module's functions are given: buffers, checked for kind, size and alignment. */

#ifndef KERNEL_ARGUMENTS_H
#define KERNEL_ARGUMENTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "../kernel.h"

#include <stdlib.h>
#include <string.h>

typedef enum { BYTES, WORDS, INT16, INT64 } Kind;

static const struct {
    const char *formats, *name;
    size_t size;
    uintptr_t alignment;
} kinds[] = {
    [BYTES] = {"bBc", "bytes", 1, 1},
    [WORDS] = {"bBcLQ", "bytes or unsigned 64-bit numbers", 0, 8},
    [INT16] = {"h", "signed 16-bit numbers", 2, 2},
    [INT64] = {"lq", "signed 64-bit numbers", 8, 8},
};

/* Get a C-contiguous buffer of one kind of items; on failure set an exception and return 0. */
static inline int get_buffer(PyObject *object, Py_buffer *view, Kind kind, int writable, const char *name)
{
    if (PyObject_GetBuffer(object, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0))) {
        if (PyErr_ExceptionMatches(PyExc_BufferError)) {
            PyErr_Clear();
            PyErr_Format(PyExc_ValueError, "%s must be a C-contiguous%s buffer", name, writable ? ", writable" : "");
        }
        return 0;
    }
    const char *format = view->format ? view->format : "B";
    if (*format == '@' || *format == '=' || *format == '<')
        format++;
    const size_t item = (size_t)view->itemsize;
    int known = format[0] && !format[1] && strchr(kinds[kind].formats, format[0]);
    if (kinds[kind].size ? item != kinds[kind].size : item != 1 && item != 8)
        known = 0;
    if (!known) {
        PyErr_Format(PyExc_TypeError, "%s must hold %s", name, kinds[kind].name);
        PyBuffer_Release(view);
        return 0;
    }
    if (view->len && (uintptr_t)view->buf % kinds[kind].alignment) {
        PyErr_Format(PyExc_ValueError, "%s must be aligned to %d bytes", name, (int)kinds[kind].alignment);
        PyBuffer_Release(view);
        return 0;
    }
    return 1;
}

/* As many buffers as one call has; released together. */
typedef struct {
    Py_buffer views[6];
    int count;
} Buffers;

static inline Py_buffer *take(Buffers *buffers, PyObject *object, Kind kind, int writable, const char *name)
{
    Py_buffer *view = &buffers->views[buffers->count];
    if (!get_buffer(object, view, kind, writable, name))
        return NULL;
    buffers->count++;
    return view;
}

static inline PyObject *finish(Buffers *buffers, PyObject *result)
{
    while (buffers->count)
        PyBuffer_Release(&buffers->views[--buffers->count]);
    return result;
}

static inline PyObject *result_of(Status status, const char *out_of_range)
{
    if (status == NO_MEMORY)
        return PyErr_NoMemory();
    if (status == OUT_OF_RANGE) {
        PyErr_SetString(PyExc_ValueError, out_of_range);
        return NULL;
    }
    return Py_NewRef(Py_None);
}

/* Whether a buffer is `count` items of `size` bytes; sets an exception if not. */
static inline int check_length(const Py_buffer *view, size_t count, size_t size, const char *name)
{
    if (size && count <= (size_t)PY_SSIZE_T_MAX / size && (size_t)view->len == count * size)
        return 1;
    PyErr_Format(PyExc_ValueError, "%s has %zd bytes; expected %zu times %zu", name, view->len, count, size);
    return 0;
}

/* How many whole items of `size` bytes a buffer has; -1 with an exception if a part is left. */
static inline Py_ssize_t count_items(const Py_buffer *view, size_t size, const char *name)
{
    if ((size_t)view->len % size) {
        PyErr_Format(PyExc_ValueError, "%s has %zd bytes, no multiple of %zu", name, view->len, size);
        return -1;
    }
    return view->len / (Py_ssize_t)size;
}

#endif
