/* The guard as Python sees it; __init__.pyi has the signatures and the rules. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "file_object.h"
#include "methods.h"
#include "guard.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

struct guard guard;

#define WATCHES 2

/* A descriptor that Python is told of when it is readable. */
struct watch {
    ev_io watcher; /* first: libev hands it back */
    PyObject *function;
};

static PyObject *tick_function, *cold_function;
static struct watch watches[WATCHES];
static bool is_installed;

/* Call Python from the loop. What it raises must not reach bjoern: it is printed. */
static void call(PyObject *function) {
    PyObject *result = PyObject_CallNoArgs(function);
    if (result == NULL)
        PyErr_WriteUnraisable(function);
    Py_XDECREF(result);
}

static void call_from_loop(PyObject *function) {
    if (function == NULL)
        return;
    PyGILState_STATE state = PyGILState_Ensure();
    call(function);
    PyGILState_Release(state);
}

void guard_tick(void) {
    call_from_loop(tick_function);
}

static void on_watched(struct ev_loop *loop, ev_io *watcher, int events) {
    (void)loop;
    (void)events;
    call_from_loop(((struct watch *)watcher)->function);
}

static void tell_cold(void) {
    call_from_loop(cold_function);
}

static size_t descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > 1 << 22)
        return 1 << 22;
    return (size_t)limit.rlim_cur;
}

static PyObject *install(PyObject *self, PyObject *function) {
    (void)self;
    if (is_installed)
        Py_RETURN_NONE;
    if (!PyCFunction_Check(function)) {
        PyErr_SetString(PyExc_TypeError, "install takes _bjoern.server_run");
        return NULL;
    }
    if (!conn_table_open(descriptor_limit()))
        return PyErr_NoMemory();
    const char *error = hooks_install((void *)(uintptr_t)PyCFunction_GET_FUNCTION(function));
    if (error != NULL) {
        PyErr_Format(PyExc_ImportError, "bjoern cannot be guarded: %s; `svc-edge doctor` says more", error);
        return NULL;
    }
    is_installed = true;
    Py_RETURN_NONE;
}

static int64_t ns(double seconds) {
    return (int64_t)(seconds * 1e9);
}

static PyObject *configure(PyObject *self, PyObject *args, PyObject *names) {
    static char *keys[] = {"header_timeout_s", "body_timeout_s", "idle_timeout_s", "parked_timeout_s",
                           "min_send_rate", "max_connections", "max_head_bytes", "max_target_bytes",
                           "max_fields", "max_body_bytes", "warm_bytes", "corr_prefix", NULL};
    double header, body, idle, parked;
    unsigned long long rate, body_bytes, warm;
    unsigned connections, fields;
    Py_ssize_t head, target;
    const char *prefix;
    (void)self;
    if (!PyArg_ParseTupleAndKeywords(args, names, "$ddddKInnIKKs", keys, &header, &body, &idle, &parked, &rate,
                                     &connections, &head, &target, &fields, &body_bytes, &warm, &prefix))
        return NULL;
    guard.limits = (struct guard_limits){
        .framing = {.head_bytes = (size_t)head, .target_bytes = (size_t)target, .fields = fields,
                    .body_bytes = body_bytes},
        .header_ns = ns(header), .body_ns = ns(body), .idle_ns = ns(idle), .parked_ns = ns(parked),
        .min_send_rate = rate, .max_connections = connections};
    if (guard.limits.framing.head_bytes > HEAD_BYTES / 2)
        guard.limits.framing.head_bytes = HEAD_BYTES / 2;
    warm_limit((size_t)warm, descriptor_limit() / 8);
    snprintf(guard.corr_prefix, sizeof guard.corr_prefix, "%s", prefix);
    Py_RETURN_NONE;
}

struct conn *answering(void) {
    if (guard.current == NULL || guard.current->state != CONN_BUSY) {
        PyErr_SetString(PyExc_RuntimeError, "no request is being answered");
        return NULL;
    }
    return guard.current;
}

static PyObject *park(PyObject *self, PyObject *nothing) {
    (void)self;
    (void)nothing;
    struct conn *c = answering();
    if (c == NULL)
        return NULL;
    if (!c->is_parking) {
        c->head = malloc(guard.head_length);
        if (c->head == NULL)
            return PyErr_NoMemory();
        memcpy(c->head, guard_head, guard.head_length);
        c->head_length = guard.head_length;
        c->is_parking = true;
        c->generation++; /* a token of an earlier parking must not end this one */
        guard.counters.parks++;
    }
    return PyLong_FromUnsignedLongLong(token_of(c));
}

static PyObject *resume(PyObject *self, PyObject *token) {
    (void)self;
    unsigned long long value = PyLong_AsUnsignedLongLong(token);
    if (PyErr_Occurred())
        return NULL;
    struct conn *c = conn_of_token(value);
    if (c == NULL || c->is_resumed || (c->state != CONN_PARKED && !c->is_parking))
        Py_RETURN_FALSE;
    c->is_resumed = true;
    if (c->state == CONN_PARKED)
        ev_feed_event(c->loop, c->watcher, EV_READ);
    Py_RETURN_TRUE;
}

/* Whether header lines are what `header_lines` of Python makes: nothing here can end the head. */
static bool are_lines(const char *lines, Py_ssize_t length) {
    if (length == 0)
        return true;
    if (length < 4 || memcmp(lines, "\r\n", 2) != 0 || lines[length - 1] == '\n' || lines[length - 1] == '\r')
        return false;
    const char *at = lines, *stop = lines + length;
    while ((at = memchr(at, '\n', (size_t)(stop - at))) != NULL) {
        if (at == lines || at[-1] != '\r' || at + 1 == stop || at[1] == '\r' || at[1] == '\n')
            return false;
        at++;
    }
    return memchr(lines, '\0', (size_t)length) == NULL;
}

static PyObject *send_fields(PyObject *self, PyObject *lines) {
    (void)self;
    struct conn *c = answering();
    char *bytes;
    Py_ssize_t length;
    if (c == NULL || PyBytes_AsStringAndSize(lines, &bytes, &length) != 0)
        return NULL;
    if (!are_lines(bytes, length)) {
        PyErr_SetString(PyExc_ValueError, "header lines are each CR LF and then a field, without an end");
        return NULL;
    }
    if (!fields_keep(c, bytes, (size_t)length))
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *send_memory(PyObject *self, PyObject *body) {
    (void)self;
    struct conn *c = answering();
    Py_buffer view;
    if (c == NULL || PyObject_GetBuffer(body, &view, PyBUF_SIMPLE) != 0)
        return NULL;
    bool is_planned = plan_buffer(c, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return is_planned ? Py_NewRef(Py_None) : PyErr_NoMemory();
}

PyObject *peer_tuple(const struct sockaddr_in6 *peer) {
    char text[INET6_ADDRSTRLEN] = "";
    if (peer->sin6_family == AF_INET6) {
        inet_ntop(AF_INET6, &peer->sin6_addr, text, sizeof text);
        return Py_BuildValue("sI", text, (unsigned)ntohs(peer->sin6_port));
    }
    struct sockaddr_in four;
    memcpy(&four, peer, sizeof four);
    inet_ntop(AF_INET, &four.sin_addr, text, sizeof text);
    return Py_BuildValue("sI", text, (unsigned)ntohs(four.sin_port));
}

static PyObject *replay_of(PyObject *self, PyObject *nothing) {
    (void)self;
    (void)nothing;
    struct conn *c = answering();
    if (c == NULL)
        return NULL;
    /* Nothing has parked or come on this descriptor since, so the generation is still that of the parking. */
    return PyLong_FromUnsignedLongLong(c->is_replay && !c->is_parking ? token_of(c) : 0);
}

static PyObject *may_wait(PyObject *self, PyObject *nothing) {
    (void)self;
    (void)nothing;
    struct conn *c = answering();
    if (c == NULL)
        return NULL;
    c->may_wait = true;
    Py_RETURN_NONE;
}

static PyObject *on_cold(PyObject *self, PyObject *function) {
    (void)self;
    Py_XSETREF(cold_function, Py_NewRef(function));
    cold_listen(tell_cold);
    Py_RETURN_NONE;
}

static PyObject *cold_list(PyObject *self, PyObject *nothing) {
    (void)self;
    (void)nothing;
    size_t count;
    const struct cold *span = cold_spans(&count), *stop = span + count;
    PyObject *told = PyList_New(0);
    for (; told != NULL && span < stop; span++)
        if (!append(told, Py_BuildValue("KiLK", (unsigned long long)span->token, span->file->fd, (long long)span->offset,
                                        (unsigned long long)span->length)))
            Py_CLEAR(told);
    return told;
}

static PyObject *go_on(PyObject *self, PyObject *args) {
    unsigned long long token;
    int waits;
    (void)self;
    if (!PyArg_ParseTuple(args, "Kp", &token, &waits))
        return NULL;
    return PyBool_FromLong(cold_go_on(token, waits != 0));
}

static PyObject *give_up(PyObject *self, PyObject *token) {
    (void)self;
    unsigned long long value = PyLong_AsUnsignedLongLong(token);
    if (PyErr_Occurred())
        return NULL;
    return PyBool_FromLong(cold_give_up(value));
}

static PyObject *peer(PyObject *self, PyObject *nothing) {
    (void)self;
    (void)nothing;
    struct conn *c = answering();
    return c == NULL ? NULL : peer_tuple(&c->peer);
}

static PyObject *arrived(PyObject *self, PyObject *nothing) {
    (void)self;
    (void)nothing;
    struct conn *c = answering();
    return c == NULL ? NULL : PyFloat_FromDouble((double)c->arrived_ns / 1e9);
}

static PyObject *pressure(PyObject *self, PyObject *nothing) {
    (void)self;
    (void)nothing;
    struct conn *c = answering();
    if (c == NULL)
        return NULL;
    return PyLong_FromLong((long)pressure_on(c));
}

static PyObject *press_at(PyObject *self, PyObject *args) {
    unsigned room;
    double patience_s, interval_s;
    (void)self;
    if (!PyArg_ParseTuple(args, "Idd", &room, &patience_s, &interval_s))
        return NULL;
    pressure_set(room, ns(patience_s), ns(interval_s));
    Py_RETURN_NONE;
}

static PyObject *load(PyObject *self, PyObject *nothing) {
    (void)self;
    (void)nothing;
    return Py_BuildValue("IIN", guard.counters.states[CONN_BUSY], guard.counters.states[CONN_PARKED],
                         PyBool_FromLong(is_shedding()));
}

static PyObject *least_wait(PyObject *self, PyObject *nothing) {
    (void)self;
    (void)nothing;
    return PyFloat_FromDouble((double)take_least_wait() / 1e9);
}

static PyObject *watch_socket(PyObject *self, PyObject *args) {
    int fd;
    PyObject *function;
    (void)self;
    if (!PyArg_ParseTuple(args, "iO", &fd, &function))
        return NULL;
    if (guard.loop == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "bjoern's loop does not run yet");
        return NULL;
    }
    struct watch *watch = watches;
    while (watch < watches + WATCHES && watch->function != NULL && watch->watcher.fd != fd)
        watch++;
    if (watch == watches + WATCHES) {
        PyErr_SetString(PyExc_RuntimeError, "two descriptors are watched already");
        return NULL;
    }
    if (ev_is_active(&watch->watcher))
        ev_io_stop(guard.loop, &watch->watcher);
    Py_XSETREF(watch->function, Py_NewRef(function));
    ev_io_init(&watch->watcher, on_watched, fd, EV_READ);
    ev_io_start(guard.loop, &watch->watcher);
    Py_RETURN_NONE;
}

static PyObject *tick(PyObject *self, PyObject *function) {
    (void)self;
    Py_XSETREF(tick_function, Py_NewRef(function));
    Py_RETURN_NONE;
}

static PyObject *stop_accepting(PyObject *self, PyObject *nothing) {
    (void)self;
    (void)nothing;
    guard.is_stopped = true;
    if (guard.listener != NULL)
        ev_io_stop(guard.loop, guard.listener);
    Py_RETURN_NONE;
}

static PyObject *close_after_answers(PyObject *self, PyObject *nothing) {
    (void)self;
    (void)nothing;
    guard.is_closing = true;
    Py_RETURN_NONE;
}

static PyObject *close_idle(PyObject *self, PyObject *seconds) {
    (void)self;
    double age_s = PyFloat_AsDouble(seconds);
    if (age_s == -1.0 && PyErr_Occurred())
        return NULL;
    int64_t before = now_ns() - ns(age_s);
    long count = 0;
    for (size_t fd = 0; fd < conn_table_end(); fd++) {
        struct conn *c = conn_of((int)fd);
        if (c != NULL && !c->is_ending && (c->state == CONN_IDLE || c->state == CONN_FRESH) &&
            c->since_ns <= before && !has_unread(c)) {
            end_soon(c);
            count++;
        }
    }
    return PyLong_FromLong(count);
}

static PyObject *connections(PyObject *self, PyObject *nothing) {
    const unsigned *n = guard.counters.states;
    (void)self;
    (void)nothing;
    return Py_BuildValue("{sIsIsIsIsIsIsI}", "fresh", n[CONN_FRESH], "head", n[CONN_HEAD], "body",
                         n[CONN_BODY], "busy", n[CONN_BUSY], "parked", n[CONN_PARKED], "idle", n[CONN_IDLE],
                         "linger", n[CONN_LINGER]);
}

static PyObject *counters(PyObject *self, PyObject *nothing) {
    const struct guard_counters *n = &guard.counters;
    (void)self;
    (void)nothing;
    return Py_BuildValue("{sKsKsKsKsKsKsKsKsKsKsKsKsKsKsKsn}", "accepted", n->accepted, "requests", n->requests,
                         "refused", n->refused, "cut", n->cut, "timed_out_head",
                         n->timed_out_head, "timed_out_body", n->timed_out_body, "timed_out_send", n->timed_out_send,
                         "timed_out_idle", n->timed_out_idle, "parks", n->parks, "replays", n->replays,
                         "body_bytes_in", n->body_bytes_in, "bytes_out", n->bytes_out, "paused_accepts",
                         n->paused_accepts, "bad_answers", n->bad_answers, "write_errors", n->write_errors,
                         "warm_bytes", (Py_ssize_t)warm_bytes());
}

static PyObject *refusal_tuple(const struct refusal *told) {
    int64_t since = told->arrived_ns ? told->arrived_ns : told->at_ns;
    return Py_BuildValue("isNsd", told->status, told->reason, peer_tuple(&told->peer), told->corr_id,
                         (double)(told->at_ns - since) / 1e9);
}

bool append(PyObject *list, PyObject *item) {
    bool is_appended = item != NULL && PyList_Append(list, item) == 0;
    Py_XDECREF(item);
    return is_appended;
}

static bool tell_refusals(PyObject *told, PyObject *lost) {
    while (guard.refusals_start < guard.refusals_end)
        if (!append(told, refusal_tuple(&guard.refusals[guard.refusals_start++ % REFUSALS_KEPT])))
            return false;
    for (struct refusals_lost *kind = guard.lost; kind < guard.lost + REFUSAL_KINDS; kind++) {
        uint64_t count = kind->count;
        kind->count = 0;
        if (count > 0 && !append(lost, Py_BuildValue("isK", kind->status, kind->reason, count)))
            return false;
    }
    return true;
}

static PyObject *refusals(PyObject *self, PyObject *nothing) {
    (void)self;
    (void)nothing;
    PyObject *told = PyList_New(0), *lost = PyList_New(0);
    if (told != NULL && lost != NULL && tell_refusals(told, lost))
        return Py_BuildValue("NN", told, lost);
    Py_XDECREF(told);
    Py_XDECREF(lost);
    return NULL;
}

/* Checking start_response: a header that could start another one is refused. */

typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    PyObject *inner;
} Checked;

/* Whether a byte is below 0x20. PERF: eight at a time; almost no header has one. */
static bool has_control(const unsigned char *bytes, size_t length) {
    uint64_t found = 0, word;
    size_t at = 0;
    for (; at + 8 <= length; at += 8) {
        memcpy(&word, bytes + at, 8);
        found |= (word - UINT64_C(0x2020202020202020)) & ~word;
    }
    for (; at < length; at++)
        found |= bytes[at] < 0x20 ? UINT64_C(0x80) : 0;
    return (found & UINT64_C(0x8080808080808080)) != 0;
}

static bool is_clean(PyObject *text) {
    if (!PyUnicode_Check(text))
        return false;
    if (PyUnicode_KIND(text) != PyUnicode_1BYTE_KIND)
        return false;
    const unsigned char *bytes = PyUnicode_1BYTE_DATA(text);
    Py_ssize_t length = PyUnicode_GET_LENGTH(text);
    if (!has_control(bytes, (size_t)length))
        return true;
    return memchr(bytes, '\r', (size_t)length) == NULL && memchr(bytes, '\n', (size_t)length) == NULL &&
           memchr(bytes, '\0', (size_t)length) == NULL;
}

static bool are_clean(PyObject *headers) {
    if (!PyList_Check(headers))
        return false;
    for (Py_ssize_t k = 0; k < PyList_GET_SIZE(headers); k++) {
        PyObject *pair = PyList_GET_ITEM(headers, k);
        if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2 || !is_clean(PyTuple_GET_ITEM(pair, 0)) ||
            !is_clean(PyTuple_GET_ITEM(pair, 1)))
            return false;
    }
    return true;
}

static PyObject *start_checked(PyObject *self, PyObject *const *args, size_t flags, PyObject *names) {
    Py_ssize_t count = PyVectorcall_NARGS(flags);
    if (count < 2 || !is_clean(args[0]) || !are_clean(args[1])) {
        PyErr_SetString(PyExc_ValueError, "status and headers are latin-1 text without CR, LF and NUL");
        return NULL;
    }
    return PyObject_Vectorcall(((Checked *)self)->inner, args, (size_t)count, names);
}

static void checked_free(PyObject *self) {
    Py_CLEAR(((Checked *)self)->inner);
    PyObject_Free(self);
}

static PyTypeObject Checked_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "edge_server.guard.Checked",
    .tp_basicsize = sizeof(Checked),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(Checked, call),
    .tp_call = PyVectorcall_Call,
    .tp_dealloc = checked_free,
};

static PyObject *new_checked(vectorcallfunc function, PyObject *inner) {
    Checked *made = PyObject_New(Checked, &Checked_Type);
    if (made != NULL) {
        made->call = function;
        made->inner = Py_NewRef(inner);
    }
    return (PyObject *)made;
}

/* bjoern knows IPv4 only and calls every other peer 0.0.0.0. */
static bool name_peer(PyObject *environ) {
    char text[INET6_ADDRSTRLEN];
    if (guard.current == NULL || guard.current->peer.sin6_family != AF_INET6)
        return true;
    inet_ntop(AF_INET6, &guard.current->peer.sin6_addr, text, sizeof text);
    PyObject *address = PyUnicode_FromString(text);
    bool is_set = address != NULL && PyDict_SetItemString(environ, "REMOTE_ADDR", address) == 0;
    Py_XDECREF(address);
    return is_set;
}

static PyObject *call_app(PyObject *self, PyObject *const *args, size_t flags, PyObject *names) {
    if (PyVectorcall_NARGS(flags) != 2 || names != NULL) {
        PyErr_SetString(PyExc_TypeError, "a WSGI application takes (environ, start_response)");
        return NULL;
    }
    PyObject *start = name_peer(args[0]) ? new_checked(start_checked, args[1]) : NULL;
    if (start == NULL)
        return NULL;
    PyObject *given[] = {args[0], start};
    PyObject *body = PyObject_Vectorcall(((Checked *)self)->inner, given, 2, NULL);
    if (guard.current != NULL)
        guard.current->own_length = body != NULL && PyBytes_Check(body) ? (size_t)PyBytes_GET_SIZE(body) : SIZE_MAX;
    guard.current = NULL; /* whoever is called next from the loop answers no request */
    Py_DECREF(start);
    return body;
}

static PyObject *checked(PyObject *self, PyObject *app) {
    (void)self;
    return new_checked(call_app, app);
}

static PyMethodDef methods[] = {
    {"install", install, METH_O, NULL},
    {"configure", (PyCFunction)(void (*)(void))configure, METH_VARARGS | METH_KEYWORDS, NULL},
    {"checked", checked, METH_O, NULL},
    {"park", park, METH_NOARGS, NULL},
    {"resume", resume, METH_O, NULL},
    {"may_wait", may_wait, METH_NOARGS, NULL},
    {"on_cold", on_cold, METH_O, NULL},
    {"cold", cold_list, METH_NOARGS, NULL},
    {"go_on", go_on, METH_VARARGS, NULL},
    {"give_up", give_up, METH_O, NULL},
    {"send_fields", send_fields, METH_O, NULL},
    {"send_memory", send_memory, METH_O, NULL},
    {"replay_of", replay_of, METH_NOARGS, NULL},
    {"peer", peer, METH_NOARGS, NULL},
    {"arrived", arrived, METH_NOARGS, NULL},
    {"pressure", pressure, METH_NOARGS, NULL},
    {"press_at", press_at, METH_VARARGS, NULL},
    {"load", load, METH_NOARGS, NULL},
    {"least_wait", least_wait, METH_NOARGS, NULL},
    {"watch", watch_socket, METH_VARARGS, NULL},
    {"tick", tick, METH_O, NULL},
    {"stop_accepting", stop_accepting, METH_NOARGS, NULL},
    {"close_after_answers", close_after_answers, METH_NOARGS, NULL},
    {"close_idle", close_idle, METH_O, NULL},
    {"connections", connections, METH_NOARGS, NULL},
    {"counters", counters, METH_NOARGS, NULL},
    {"refusals", refusals, METH_NOARGS, NULL},
    {"repeat", (PyCFunction)(void (*)(void))guard_repeat, METH_FASTCALL, NULL},
    {"remember", (PyCFunction)(void (*)(void))guard_remember, METH_FASTCALL, NULL},
    {"repeated", guard_repeated, METH_NOARGS, NULL},
    {"forget", guard_forget, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "edge_server.guard._guard", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit__guard(void) {
    if (PyType_Ready(&Checked_Type) != 0 || PyType_Ready(&File_Type) != 0)
        return NULL;
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && PyModule_AddObjectRef(module, "File", (PyObject *)&File_Type) != 0)
        Py_CLEAR(module);
    return module;
}
