/* File: what the guard sends from, as Python sees it; _guard.pyi has the signatures and the rules. */
#define PY_SSIZE_T_CLEAN
#include "file_object.h"

#include "guard.h"

typedef struct {
    PyObject_HEAD
    struct file *file;
} File;

struct file *file_of(PyObject *object) {
    return ((File *)object)->file;
}

static PyObject *file_make(PyTypeObject *type, PyObject *args, PyObject *names) {
    int fd;
    unsigned links;
    long long size, mtime;
    if (names != NULL && PyDict_GET_SIZE(names) > 0) {
        PyErr_SetString(PyExc_TypeError, "File takes (descriptor, size, mtime_ns, min_links)");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "iLLI", &fd, &size, &mtime, &links))
        return NULL;
    if (size < 0) {
        PyErr_SetString(PyExc_ValueError, "no file has a size below zero");
        return NULL;
    }
    struct file_identity identity = {.size = size, .mtime_ns = mtime, .min_links = links};
    File *made = (File *)type->tp_alloc(type, 0);
    if (made != NULL && (made->file = file_new(fd, &identity)) == NULL) {
        Py_DECREF(made);
        return PyErr_NoMemory();
    }
    return (PyObject *)made;
}

static void file_free(PyObject *self) {
    struct file *file = ((File *)self)->file;
    if (file != NULL) {
        file->is_retired = true;
        repeat_forget_file(file);
        file_release(file);
    }
    Py_TYPE(self)->tp_free(self);
}

static PyObject *file_send(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    struct file *file = ((File *)self)->file;
    struct conn *c = answering();
    if (c == NULL)
        return NULL;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "send takes (offset, length)");
        return NULL;
    }
    long long offset = PyLong_AsLongLong(args[0]), length = PyLong_AsLongLong(args[1]);
    if (PyErr_Occurred())
        return NULL;
    plan_drop(c);
    if (offset < 0 || length < 0 || offset > file->identity.size || length > file->identity.size - offset)
        Py_RETURN_FALSE;
    switch (plan_file(c, file, offset, (size_t)length)) {
    case READ_DONE:
        Py_RETURN_TRUE;
    case READ_COLD:
        Py_RETURN_NONE;
    case READ_FAILED:
        break;
    }
    Py_RETURN_FALSE;
}

static PyObject *file_at_hand(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    struct file *file = ((File *)self)->file;
    struct conn *c = answering();
    if (c == NULL)
        return NULL;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "at_hand takes (offset, length)");
        return NULL;
    }
    long long offset = PyLong_AsLongLong(args[0]), length = PyLong_AsLongLong(args[1]);
    if (PyErr_Occurred())
        return NULL;
    bool is_outside = offset < 0 || length < 0 || offset > file->identity.size || length > file->identity.size - offset;
    return PyBool_FromLong(is_outside || c->may_wait || file_is_at_hand(file, offset, (uint64_t)length));
}

static PyMethodDef file_methods[] = {
    {"send", (PyCFunction)(void (*)(void))file_send, METH_FASTCALL, NULL},
    {"at_hand", (PyCFunction)(void (*)(void))file_at_hand, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

PyTypeObject File_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "edge_server.guard.File",
    .tp_basicsize = sizeof(File),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = file_make,
    .tp_dealloc = file_free,
    .tp_methods = file_methods,
};
