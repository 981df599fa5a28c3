/* Repeating, as Python sees it. */
#define PY_SSIZE_T_CLEAN
#include "file_object.h"
#include "methods.h"

PyObject *guard_repeat(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    int64_t bounds_ns[REPEAT_BOUNDS];
    (void)self;
    if (count != 3 || !PyTuple_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "repeat takes (kinds, bounds, sample_every)");
        return NULL;
    }
    long kinds = PyLong_AsLong(args[0]), every = PyLong_AsLong(args[2]);
    Py_ssize_t bounds = PyTuple_GET_SIZE(args[1]);
    for (Py_ssize_t k = 0; k < bounds && k < REPEAT_BOUNDS; k++)
        bounds_ns[k] = (int64_t)(PyFloat_AsDouble(PyTuple_GET_ITEM(args[1], k)) * 1e9);
    if (PyErr_Occurred())
        return NULL;
    if (kinds < 0 || every < 0 || !repeat_configure((unsigned)kinds, bounds_ns, (unsigned)bounds, (unsigned)every)) {
        PyErr_SetString(PyExc_ValueError, "too many kinds or bounds, or no memory");
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *guard_remember(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    Py_ssize_t length;
    (void)self;
    struct conn *c = answering();
    if (c == NULL)
        return NULL;
    if (count != 4 || (args[2] != Py_None && !PyObject_TypeCheck(args[2], &File_Type))) {
        PyErr_SetString(PyExc_TypeError, "remember takes (kind, etag, File or None, seconds)");
        return NULL;
    }
    double for_s = PyFloat_AsDouble(args[3]);
    long kind = PyLong_AsLong(args[0]);
    const char *etag = PyUnicode_AsUTF8AndSize(args[1], &length);
    if (etag == NULL || PyErr_Occurred())
        return NULL;
    struct file *file = args[2] == Py_None ? NULL : file_of(args[2]);
    if (!repeat_want(c, (unsigned)kind, etag, (size_t)length, file, (int64_t)(for_s * 1e9)))
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *counts_tuple(unsigned kind) {
    struct repeated *counts = repeat_counts(kind);
    PyObject *within = PyTuple_New((Py_ssize_t)repeat_bounds() + 1);
    for (Py_ssize_t k = 0; within != NULL && k < PyTuple_GET_SIZE(within); k++) {
        PyObject *number = PyLong_FromUnsignedLongLong(counts->within[k]);
        if (number == NULL)
            Py_CLEAR(within);
        else
            PyTuple_SET_ITEM(within, k, number);
    }
    PyObject *told =
        within == NULL ? NULL : Py_BuildValue("NdK", within, (double)counts->latency_ns / 1e9, counts->bytes);
    if (told != NULL)
        *counts = (struct repeated){0};
    return told;
}

static PyObject *sample_tuple(const struct repeat_sample *told) {
    return Py_BuildValue("INssdK", told->kind, peer_tuple(&told->peer), told->corr_id, told->etag,
                         (double)told->latency_ns / 1e9, told->bytes);
}

PyObject *guard_repeated(PyObject *self, PyObject *nothing) {
    (void)self;
    (void)nothing;
    size_t sampled;
    const struct repeat_sample *samples = repeat_samples(&sampled);
    PyObject *kinds = PyList_New(0), *told = PyList_New(0);
    bool is_made = kinds != NULL && told != NULL;
    for (unsigned kind = 0; is_made && kind < repeat_kinds(); kind++)
        is_made = append(kinds, counts_tuple(kind));
    for (size_t k = 0; is_made && k < sampled; k++)
        is_made = append(told, sample_tuple(&samples[k]));
    if (is_made)
        return Py_BuildValue("NN", kinds, told);
    Py_XDECREF(kinds);
    Py_XDECREF(told);
    return NULL;
}

PyObject *guard_forget(PyObject *self, PyObject *nothing) {
    (void)self;
    (void)nothing;
    repeat_forget_all();
    Py_RETURN_NONE;
}
