/* What the kernel alone takes of an event: one send by a process on one core, one recvmsg with its receive stamp by a process on
   another, over loopback sockets that wait in epoll. Nothing is parsed, kept or logged: no client or server of one event a read
   and a write can do with less.

   floor STREAMS EVENTS_A_SECOND SECONDS BYTES: every stream gets an event in turn, in lockstep batches; 0 events/s: unpaced. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RECEIVER_CORE = 0, SENDER_CORE = 1, READY = 1024, BUFFER = 1 << 16 };

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double seconds_of_cpu(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + 1e-6 * (used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + 1e-9 * time.tv_nsec;
}

static void run_on(int core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    if (sched_setaffinity(0, sizeof set, &set)) fail("sched_setaffinity");
}

static void receive(const struct sockaddr_in *server, int streams, int bytes) {
    int yes = 1, queue = epoll_create1(0);
    for (int i = 0; i < streams; i++) {
        int one = socket(AF_INET, SOCK_STREAM, 0);
        if (one < 0 || connect(one, (const struct sockaddr *)server, sizeof *server)) fail("connect");
        setsockopt(one, SOL_SOCKET, SO_TIMESTAMPNS, &yes, sizeof yes);
        fcntl(one, F_SETFL, O_NONBLOCK);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = one};
        if (epoll_ctl(queue, EPOLL_CTL_ADD, one, &event)) fail("epoll_ctl");
    }
    static char buffer[BUFFER];
    struct epoll_event ready[READY];
    long reads = 0, total = 0;
    double before = seconds_of_cpu();
    for (int open = streams; open;) {
        int count = epoll_wait(queue, ready, READY, -1);
        for (int i = 0; i < count; i++) {
            char control[128];
            struct iovec into = {buffer, sizeof buffer};
            struct msghdr message = {.msg_iov = &into, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
            ssize_t got = recvmsg(ready[i].data.fd, &message, 0);
            if (got <= 0) {
                close(ready[i].data.fd);
                open--;
                continue;
            }
            reads++;
            total += got;
        }
    }
    long events = total / bytes;
    printf("received: %.2f us of CPU an event, %.2f events a read\n", (seconds_of_cpu() - before) / events * 1e6, (double)events / reads);
}

int main(int argc, char **argv) {
    int streams = argc == 5 ? atoi(argv[1]) : 0, bytes = argc == 5 ? atoi(argv[4]) : 0, yes = 1;
    if (streams < 1 || bytes < 1 || bytes > BUFFER) {
        fprintf(stderr, "usage: floor STREAMS EVENTS_A_SECOND SECONDS BYTES\n");
        return 2;
    }
    double rate = atof(argv[2]), seconds = atof(argv[3]);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), *stream = malloc(streams * sizeof *stream);
    if (!stream || bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    fflush(stdout);
    pid_t receiver = fork();
    if (receiver < 0) fail("fork");
    if (!receiver) {
        run_on(RECEIVER_CORE);
        receive(&address, streams, bytes);
        return 0;
    }
    run_on(SENDER_CORE);
    for (int i = 0; i < streams; i++) {
        if ((stream[i] = accept(listener, NULL, NULL)) < 0) fail("accept");
        setsockopt(stream[i], IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    }
    usleep(200000);
    static char event[BUFFER];
    long sent = 0;
    double began = now(), before = seconds_of_cpu(), step = rate > 0 ? streams / rate : 0;
    for (long batch = 0; now() - began < seconds; batch++) {
        double early = began + batch * step - now();
        if (step > 0 && early > 0) usleep((useconds_t)(early * 1e6));
        for (int i = 0; i < streams; i++) sent += send(stream[i], event, bytes, MSG_DONTWAIT) == bytes;
    }
    printf("sent: %.0f events/s, %.2f us of CPU an event\n", sent / (now() - began), (seconds_of_cpu() - before) / sent * 1e6);
    fflush(stdout);
    for (int i = 0; i < streams; i++) close(stream[i]);
    waitpid(receiver, NULL, 0);
    return 0;
}
