/* Functions of the module that stand in files of their own; _guard.pyi has the signatures and the rules. */
#ifndef SVC_EDGE_METHODS_H
#define SVC_EDGE_METHODS_H

#include <Python.h>

#include "guard.h"

/* module.c */
bool append(PyObject *list, PyObject *item); /* takes the item; false where it is NULL, or without memory */
PyObject *peer_tuple(const struct sockaddr_in6 *peer);

/* repeating_methods.c */
PyObject *guard_repeat(PyObject *self, PyObject *const *args, Py_ssize_t count);
PyObject *guard_remember(PyObject *self, PyObject *const *args, Py_ssize_t count);
PyObject *guard_repeated(PyObject *self, PyObject *nothing);
PyObject *guard_forget(PyObject *self, PyObject *nothing);

#endif
