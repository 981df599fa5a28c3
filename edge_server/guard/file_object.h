/* The Python type of a file that bodies are sent from; _guard.pyi has the signatures and the rules. */
#ifndef SVC_EDGE_FILE_OBJECT_H
#define SVC_EDGE_FILE_OBJECT_H

#include <Python.h>

extern PyTypeObject File_Type;

struct file *file_of(PyObject *object);

#endif
