/* The inner loops of the measuring path, for Linux and optional. The same code in Python, and what each function does, is in
 * transport/receiver.py, transport/chunked_coding.py, protocol/sse.py and emulator/batch.py.
 * A build is for the Python whose headers it used: those of 3.12 leave out references that 3.11 counts, so it claims no stable
 * ABI. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define READY 256 /* most sockets read before a request that is due has its turn */
#define PIECE (64 * 1024)
#define ROUNDS 16 /* most reads of one socket before the others have their turn */
#define MORE 256 /* spare lines when the table grows */
#define EVENTS (EPOLLIN | EPOLLRDHUP | EPOLLET)

/* Notices to an owner, as in receiver.py. Above 0 a notice is an errno. */
enum { CLOSED = 0, LOOK = -1, PLENTY = -2, NOTHING = -3 };

/* Receiver: reads and stamps the bytes of many sockets without running Python code for each piece.
 *
 * A socket is known by its descriptor. epoll is edge-triggered, so each ready socket is read until it is empty.
 * The table holds references to owners and lists while a descriptor is watched. No pointer into the table outlives a call
 * that could run other Python code. */

typedef struct {
    PyObject *owner; /* NULL: not watched */
    PyObject *pieces, *arrived_ns, *read_ns; /* lists, or all NULL */
    long long held; /* bytes in `pieces` */
    int each;
} Line;

typedef struct {
    PyObject_HEAD
    int epoll;
    int size; /* of `lines`, which a descriptor is the index of */
    Line *lines;
    Py_ssize_t enough;
    long long hold;
    struct epoll_event ready[READY];
    char data[PIECE];
} Receiver;

static Line *line_of(Receiver *self, int fd)
{
    if (fd < 0 || fd >= self->size || self->lines[fd].owner == NULL) {
        PyErr_Format(PyExc_ValueError, "descriptor %d is not watched", fd);
        return NULL;
    }
    return &self->lines[fd];
}

static void drop(PyObject *const *objects, int count)
{
    while (count--)
        Py_XDECREF(objects[count]);
}

static void clear_line(Line *line)
{
    PyObject *objects[] = {line->owner, line->pieces, line->arrived_ns, line->read_ns};
    memset(line, 0, sizeof *line);
    drop(objects, 4); /* last, because it may run any code */
}

static long long now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Puts a piece into the line's lists and returns the notice for its owner. */
static int keep(Receiver *self, Line *line, Py_ssize_t size, long long arrived_ns, long long read_ns)
{
    if (line->pieces == NULL)
        return LOOK;
    PyObject *objects[] = {
        PyBytes_FromStringAndSize(self->data, size), PyLong_FromLongLong(arrived_ns), PyLong_FromLongLong(read_ns)
    };
    int failed = objects[0] == NULL || objects[1] == NULL || objects[2] == NULL || PyList_Append(line->pieces, objects[0]) < 0 ||
                 PyList_Append(line->arrived_ns, objects[1]) < 0 || PyList_Append(line->read_ns, objects[2]) < 0;
    drop(objects, 3);
    if (failed) {
        PyErr_Clear();
        return ENOMEM;
    }
    Py_ssize_t count = PyList_Size(line->pieces);
    line->held = (count == 1 ? 0 : line->held) + size;
    if (line->each || size < 4 || memcmp(self->data + size - 4, "\r\n\r\n", 4) == 0 || line->held > self->hold)
        return LOOK;
    return count == self->enough ? PLENTY : NOTHING;
}

/* Reads a ready socket until it is empty and returns the notice for its owner. */
static int take(Receiver *self, int fd, unsigned events, long long offset_ns)
{
    int what = NOTHING;
    for (int round = 0; round < ROUNDS; round++) {
        union {
            char space[CMSG_SPACE(sizeof(struct timespec))];
            struct cmsghdr aligned;
        } control;
        struct iovec into = {self->data, PIECE};
        struct msghdr message = {
            .msg_iov = &into, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
        };
        ssize_t count = recvmsg(fd, &message, MSG_DONTWAIT);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK ? what : errno;
        if (count == 0)
            return CLOSED;
        long long read_ns = now_ns(), arrived_ns = read_ns;
        struct cmsghdr *first = CMSG_FIRSTHDR(&message);
        if (first != NULL && first->cmsg_level == SOL_SOCKET && first->cmsg_type == SCM_TIMESTAMPNS &&
            first->cmsg_len == CMSG_LEN(sizeof(struct timespec))) {
            struct timespec stamp;
            memcpy(&stamp, CMSG_DATA(first), sizeof stamp);
            arrived_ns = stamp.tv_sec * 1000000000LL + stamp.tv_nsec + offset_ns;
        }
        int notice = keep(self, &self->lines[fd], count, arrived_ns, read_ns);
        if (notice > 0)
            return notice;
        if (what != LOOK && notice != NOTHING)
            what = notice;
        /* A read that did not fill the buffer emptied the socket, but the end of the stream may follow. */
        if (count < PIECE && !(events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
            return what;
    }
    struct epoll_event again = {.events = EVENTS, .data.fd = fd}; /* there is more: ask for a new edge */
    return epoll_ctl(self->epoll, EPOLL_CTL_MOD, fd, &again) < 0 ? errno : what;
}

static PyObject *drain(Receiver *self, PyObject *offset)
{
    long long offset_ns = PyLong_AsLongLong(offset);
    if (offset_ns == -1 && PyErr_Occurred())
        return NULL;
    int count = epoll_wait(self->epoll, self->ready, READY, 0);
    if (count < 0 && errno != EINTR)
        return PyErr_SetFromErrno(PyExc_OSError);
    count = count < 0 ? 0 : count;
    PyObject *notices = PyList_New(0);
    for (int i = 0; i < count && notices != NULL; i++) {
        int fd = self->ready[i].data.fd;
        if (fd < 0 || fd >= self->size || self->lines[fd].owner == NULL)
            continue;
        int what = take(self, fd, self->ready[i].events, offset_ns);
        if (what == NOTHING)
            continue;
        PyObject *owner = Py_NewRef(self->lines[fd].owner); /* making the tuple may collect garbage, which may run any code */
        PyObject *notice = Py_BuildValue("(Ni)", owner, what);
        if (notice == NULL || PyList_Append(notices, notice) < 0)
            Py_CLEAR(notices);
        Py_XDECREF(notice);
    }
    return notices == NULL ? NULL : Py_BuildValue("(iN)", count, notices);
}

static PyObject *watch(Receiver *self, PyObject *args)
{
    int fd;
    PyObject *owner;
    if (!PyArg_ParseTuple(args, "iO", &fd, &owner))
        return NULL;
    if (fd < 0 || (fd < self->size && self->lines[fd].owner != NULL))
        return PyErr_Format(PyExc_ValueError, "descriptor %d is negative or watched already", fd);
    struct epoll_event event = {.events = EVENTS, .data.fd = fd};
    if (epoll_ctl(self->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    if (fd >= self->size) { /* epoll took it, so it is below the limit of descriptors */
        int size = fd + MORE;
        Line *lines = PyMem_Realloc(self->lines, (size_t)size * sizeof *lines);
        if (lines == NULL) {
            epoll_ctl(self->epoll, EPOLL_CTL_DEL, fd, NULL);
            return PyErr_NoMemory();
        }
        memset(lines + self->size, 0, (size_t)(size - self->size) * sizeof *lines);
        self->lines = lines;
        self->size = size;
    }
    self->lines[fd].owner = Py_NewRef(owner);
    Py_RETURN_NONE;
}

static PyObject *deliver(Receiver *self, PyObject *args)
{
    int fd, each;
    PyObject *pieces, *arrived_ns, *read_ns;
    if (!PyArg_ParseTuple(args, "iOOOp", &fd, &pieces, &arrived_ns, &read_ns, &each))
        return NULL;
    if (!PyList_Check(pieces) || !PyList_Check(arrived_ns) || !PyList_Check(read_ns)) {
        PyErr_SetString(PyExc_TypeError, "pieces, arrived_ns and read_ns must be lists");
        return NULL;
    }
    Line *line = line_of(self, fd);
    if (line == NULL)
        return NULL;
    PyObject *before[] = {line->pieces, line->arrived_ns, line->read_ns};
    line->pieces = Py_NewRef(pieces);
    line->arrived_ns = Py_NewRef(arrived_ns);
    line->read_ns = Py_NewRef(read_ns);
    line->each = each;
    line->held = 0;
    drop(before, 3);
    Py_RETURN_NONE;
}

static PyObject *forget(Receiver *self, PyObject *args)
{
    int fd;
    if (!PyArg_ParseTuple(args, "i", &fd))
        return NULL;
    Line *line = line_of(self, fd);
    if (line == NULL)
        return NULL;
    epoll_ctl(self->epoll, EPOLL_CTL_DEL, fd, NULL); /* a closed descriptor was removed by the kernel */
    clear_line(line);
    Py_RETURN_NONE;
}

static PyObject *file_number(Receiver *self, PyObject *Py_UNUSED(none))
{
    return PyLong_FromLong(self->epoll);
}

static int visit_lines(Receiver *self, visitproc visit, void *arg)
{
    Py_VISIT(((PyObject *)self)->ob_type);
    for (int fd = 0; fd < self->size; fd++) {
        Py_VISIT(self->lines[fd].owner);
        Py_VISIT(self->lines[fd].pieces);
        Py_VISIT(self->lines[fd].arrived_ns);
        Py_VISIT(self->lines[fd].read_ns);
    }
    return 0;
}

static int clear_lines(Receiver *self)
{
    for (int fd = 0; fd < self->size; fd++)
        clear_line(&self->lines[fd]);
    return 0;
}

static void end(Receiver *self)
{
    PyTypeObject *type = ((PyObject *)self)->ob_type;
    PyObject_GC_UnTrack(self);
    clear_lines(self);
    PyMem_Free(self->lines);
    if (self->epoll >= 0)
        close(self->epoll);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *begin(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    Py_ssize_t enough;
    long long hold;
    if (!PyArg_ParseTuple(args, "nL", &enough, &hold))
        return NULL;
    Receiver *self = (Receiver *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (self == NULL)
        return NULL;
    self->enough = enough;
    self->hold = hold;
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (self->epoll < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static PyMethodDef methods[] = {
    {"watch", (PyCFunction)watch, METH_VARARGS, "watch(fd, owner)"},
    {"deliver", (PyCFunction)deliver, METH_VARARGS, "deliver(fd, pieces, arrived_ns, read_ns, each)"},
    {"forget", (PyCFunction)forget, METH_VARARGS, "forget(fd)"},
    {"drain", (PyCFunction)drain, METH_O, "drain(offset_ns) -> sockets that were ready, [(owner, what), ...]"},
    {"fileno", (PyCFunction)file_number, METH_NOARGS, "the epoll descriptor: readable when there is something to drain"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, begin}, {Py_tp_dealloc, end}, {Py_tp_traverse, visit_lines}, {Py_tp_clear, clear_lines},
    {Py_tp_methods, methods}, {0, NULL},
};

static PyType_Spec spec = {
    .name = "loadgen._compiled.Receiver",
    .basicsize = sizeof(Receiver),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

/* The contents of pieces that all have one form. */

typedef int (*Form)(const char *data, Py_ssize_t size, Py_ssize_t *start, Py_ssize_t *length);

/* A whole chunk of chunked transfer coding: its size in hexadecimal digits, CRLF, contents, CRLF. */
static int is_chunk(const char *data, Py_ssize_t size, Py_ssize_t *start, Py_ssize_t *length)
{
    Py_ssize_t at = 0, chunk_size = 0;
    for (; at < size && at < 8; at++) {
        char c = data[at], lower = c | 0x20;
        if (c >= '0' && c <= '9')
            chunk_size = chunk_size * 16 + (c - '0');
        else if (lower >= 'a' && lower <= 'f')
            chunk_size = chunk_size * 16 + (lower - 'a' + 10);
        else
            break;
    }
    *start = at + 2;
    *length = chunk_size;
    return at > 0 && chunk_size > 0 && size == at + chunk_size + 4 && memcmp(data + at, "\r\n", 2) == 0 &&
           memcmp(data + size - 2, "\r\n", 2) == 0;
}

/* A whole server-sent event of one data line. */
static int is_event(const char *data, Py_ssize_t size, Py_ssize_t *start, Py_ssize_t *length)
{
    *start = 6;
    *length = size - 8;
    return size >= 8 && memcmp(data, "data: ", 6) == 0 && memcmp(data + size - 2, "\n\n", 2) == 0 &&
           memchr(data + 6, '\n', (size_t)size - 8) == NULL && memchr(data + 6, '\r', (size_t)size - 8) == NULL;
}

/* A list of the contents of the pieces from `start` on that have a form, up to the first that has not. */
static PyObject *contents(PyObject *args, Form is)
{
    PyObject *pieces;
    Py_ssize_t at;
    if (!PyArg_ParseTuple(args, "On", &pieces, &at))
        return NULL;
    if (!PyList_Check(pieces)) {
        PyErr_SetString(PyExc_TypeError, "pieces must be a list");
        return NULL;
    }
    Py_ssize_t count = PyList_Size(pieces);
    PyObject *all = PyList_New(0);
    for (; at < count && all != NULL; at++) {
        char *data;
        Py_ssize_t size, start, length;
        PyObject *piece = PyList_GetItem(pieces, at); /* borrowed: nothing below runs other Python code */
        if (piece == NULL || PyBytes_AsStringAndSize(piece, &data, &size) < 0) {
            Py_CLEAR(all);
            break;
        }
        if (!is(data, size, &start, &length))
            break;
        PyObject *content = PyBytes_FromStringAndSize(data + start, length);
        if (content == NULL || PyList_Append(all, content) < 0)
            Py_CLEAR(all);
        Py_XDECREF(content);
    }
    return all;
}

static PyObject *whole_chunks(PyObject *Py_UNUSED(module), PyObject *args)
{
    return contents(args, is_chunk);
}

static PyObject *whole_events(PyObject *Py_UNUSED(module), PyObject *args)
{
    return contents(args, is_event);
}

/* Writes one piece to each socket. Returns the time just before each write, and (place, bytes taken or -errno) of the pieces
 * that the kernel did not take whole. */
static PyObject *send_each(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *fds, *pieces;
    if (!PyArg_ParseTuple(args, "OO", &fds, &pieces))
        return NULL;
    if (!PyList_Check(fds) || !PyList_Check(pieces) || PyList_Size(fds) != PyList_Size(pieces)) {
        PyErr_SetString(PyExc_TypeError, "fds and pieces must be lists of one length");
        return NULL;
    }
    Py_ssize_t count = PyList_Size(fds);
    PyObject *stamps = PyList_New(count), *partial = PyList_New(0);
    int failed = stamps == NULL || partial == NULL;
    for (Py_ssize_t i = 0; i < count && !failed; i++) {
        char *data;
        Py_ssize_t size;
        long fd = PyLong_AsLong(PyList_GetItem(fds, i));
        if ((fd == -1 && PyErr_Occurred()) || PyBytes_AsStringAndSize(PyList_GetItem(pieces, i), &data, &size) < 0) {
            failed = 1;
            break;
        }
        long long at_ns = now_ns();
        ssize_t sent = send((int)fd, data, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
        long long taken = sent < 0 ? -errno : sent;
        PyObject *stamp = PyLong_FromLongLong(at_ns);
        failed = stamp == NULL || PyList_SetItem(stamps, i, stamp) < 0;
        if (!failed && taken != size) {
            PyObject *left = Py_BuildValue("(nL)", i, taken);
            failed = left == NULL || PyList_Append(partial, left) < 0;
            Py_XDECREF(left);
        }
    }
    if (!failed)
        return Py_BuildValue("(NN)", stamps, partial);
    Py_XDECREF(stamps);
    Py_XDECREF(partial);
    return NULL;
}

static PyMethodDef functions[] = {
    {"whole_chunks", whole_chunks, METH_VARARGS, "whole_chunks(pieces, start) -> contents"},
    {"send_each", send_each, METH_VARARGS, "send_each(fds, pieces) -> [ns, ...], [(place, bytes taken or -errno), ...]"},
    {"whole_events", whole_events, METH_VARARGS, "whole_events(pieces, start) -> contents"},
    {NULL, NULL, 0, NULL},
};

static int fill(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&spec);
    int failed = type == NULL || PyModule_AddObjectRef(module, "Receiver", type) < 0;
    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot parts[] = {{Py_mod_exec, fill}, {0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "_compiled", .m_methods = functions, .m_slots = parts};

PyMODINIT_FUNC PyInit__compiled(void)
{
    return PyModuleDef_Init(&module);
}
