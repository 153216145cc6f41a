/* The extension module protocol.encryption._kernel: checks arguments, releases the lock, calls a path. */

#include "arguments.h"

static const Path *const all_paths[] = {
#if KERNEL_X86
    &path_ifma,
    &path_avx2,
#endif
    NULL,
};

static int path_runs(const Path *path)
{
#if KERNEL_X86
    __builtin_cpu_init();
    if (path == &path_ifma)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512ifma");
    return __builtin_cpu_supports("avx2") != 0;
#else
    (void)path;
    return 0;
#endif
}

#include "fixed_base_object.h"

static PyObject *kernel_paths(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    PyObject *names = PyList_New(0);
    for (int i = 0; names && all_paths[i]; i++) {
        if (!path_runs(all_paths[i]))
            continue;
        PyObject *name = PyUnicode_FromString(all_paths[i]->name);
        if (!name || PyList_Append(names, name))
            Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return names;
}

static PyMethodDef kernel_functions[] = {
    {"paths", kernel_paths, METH_NOARGS, "paths(): the paths this machine can take, fastest first."},
    {NULL, NULL, 0, NULL},
};

static int kernel_exec(PyObject *module)
{
    ModuleState *state = PyModule_GetState(module);
    PyObject *fixed_base;
    state->modulus_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &modulus_spec, NULL);
    if (!state->modulus_type || PyModule_AddType(module, state->modulus_type))
        return -1;
    fixed_base = PyType_FromModuleAndSpec(module, &fixed_base_spec, NULL);
    if (!fixed_base)
        return -1;
    int failed = PyModule_AddType(module, (PyTypeObject *)fixed_base);
    Py_DECREF(fixed_base);
    return failed;
}

static int kernel_traverse(PyObject *module, visitproc visit, void *arg)
{
    ModuleState *state = PyModule_GetState(module);
    Py_VISIT(state->modulus_type);
    return 0;
}

static int kernel_clear(PyObject *module)
{
    ModuleState *state = PyModule_GetState(module);
    Py_CLEAR(state->modulus_type);
    return 0;
}

static PyModuleDef_Slot kernel_slots[] = {
    {Py_mod_exec, kernel_exec},
    {0, NULL},
};

static struct PyModuleDef kernel_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "protocol.encryption._kernel",
    .m_doc = "Arithmetic modulo n^2 on many residues at once; see protocol/encryption/native/kernel.h.",
    .m_size = sizeof(ModuleState),
    .m_methods = kernel_functions,
    .m_slots = kernel_slots,
    .m_traverse = kernel_traverse,
    .m_clear = kernel_clear,
};

PyMODINIT_FUNC PyInit__kernel(void) { return PyModuleDef_Init(&kernel_module); }
