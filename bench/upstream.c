/* The stand-in upstream: answers from memory, on one port for each service, after a delay; epoll in one thread.
 *
 * upstream ADDRESS LEAST MOST < services    delays in milliseconds; prints the ports and serves until its input ends
 *
 * A service is a line `service KEEPS COUNT`, and then for each of its documents a line `PATH LENGTH` and so many bytes,
 * which are the whole HTTP answer; the path * is the answer to all others. KEEPS is 1 where connections stay open.
 * Each port answers /counts with how often its documents were asked, as JSON. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SERVICES = 8, DOCUMENTS = 16, SLOTS = 4096, EVENTS = 512, DESCRIPTORS = 1 << 17 };

struct document { char path[128]; char *answer; size_t length; long asked; };
struct service { int listener, keeps, count; struct document documents[DOCUMENTS]; };
/* An answer that waits for its time in a slot of one millisecond; it is void when its connection has changed. */
struct waiting { int descriptor; unsigned turn; struct document *document; struct waiting *next; };
struct connection { struct service *service; unsigned turn; size_t read; char request[2048]; };

static struct service services[SERVICES];
static int service_count, least, most, epoll, pending;
static struct connection *connections[DESCRIPTORS];
static struct waiting *slots[SLOTS];

static long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void end(int descriptor) {
    connections[descriptor]->turn++;
    close(descriptor);
}

static void answer(int descriptor, struct document *document) {
    if (send(descriptor, document->answer, document->length, MSG_NOSIGNAL) < 0 || !connections[descriptor]->service->keeps)
        end(descriptor);
}

static void tell_counts(int descriptor, struct service *service) {
    char body[4096] = "{", head[128];
    size_t length = 1;
    for (int i = 0; i < service->count; i++)
        length += snprintf(body + length, sizeof body - length, "%s\"%s\": %ld", i ? ", " : "",
                           service->documents[i].path, service->documents[i].asked);
    body[length++] = '}';
    int headed = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", length);
    if (send(descriptor, head, headed, MSG_NOSIGNAL) > 0) send(descriptor, body, length, MSG_NOSIGNAL);
    end(descriptor);
}

static void asked(int descriptor) {
    struct connection *connection = connections[descriptor];
    struct service *service = connection->service;
    char *path = strchr(connection->request, ' ');
    connection->read = 0;
    if (!path || !strchr(path + 1, ' ')) { end(descriptor); return; }
    *strchr(++path, ' ') = 0;
    if (!strcmp(path, "/counts")) { tell_counts(descriptor, service); return; }
    struct document *document = service->documents;
    while (strcmp(document->path, "*") && strcmp(document->path, path)) document++;
    document->asked++;
    if (!most) { answer(descriptor, document); return; }
    struct waiting *waiting = malloc(sizeof *waiting), **slot;
    slot = &slots[(now_ms() + least + rand() % (most - least + 1)) % SLOTS];
    *waiting = (struct waiting){descriptor, connection->turn, document, *slot};
    *slot = waiting;
    pending++;
}

static void readable(int descriptor) {
    struct connection *connection = connections[descriptor];
    ssize_t got = recv(descriptor, connection->request + connection->read, sizeof connection->request - 1 - connection->read, 0);
    if (got <= 0) { end(descriptor); return; }
    connection->read += got;
    connection->request[connection->read] = 0;
    if (strstr(connection->request, "\r\n\r\n")) asked(descriptor);
    else if (connection->read == sizeof connection->request - 1) end(descriptor);
}

static void accept_all(struct service *service) {
    int descriptor, one = 1;
    while ((descriptor = accept4(service->listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (!connections[descriptor]) connections[descriptor] = calloc(1, sizeof(struct connection));
        connections[descriptor]->service = service;
        connections[descriptor]->read = 0;
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &(struct epoll_event){EPOLLIN, {.fd = descriptor}});
    }
}

static void answer_those_due(long *told, long now) {
    for (; *told <= now; ++*told)
        for (struct waiting *waiting = slots[*told % SLOTS], *next; waiting || (slots[*told % SLOTS] = NULL); waiting = next) {
            next = waiting->next;
            if (connections[waiting->descriptor]->turn == waiting->turn) answer(waiting->descriptor, waiting->document);
            free(waiting);
            pending--;
        }
}

static void read_services(void) {
    char line[256];
    struct service *service = NULL;
    while (fgets(line, sizeof line, stdin) && strcmp(line, "serve\n")) {
        int keeps, count;
        if (sscanf(line, "service %d %d", &keeps, &count) == 2) {
            service = &services[service_count++];
            service->keeps = keeps;
            continue;
        }
        struct document *document = &service->documents[service->count++];
        if (sscanf(line, "%127s %zu", document->path, &document->length) != 2) exit(2);
        document->answer = malloc(document->length);
        if (fread(document->answer, 1, document->length, stdin) != document->length) exit(2);
    }
}

static int listen_on(const char *address) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    inet_pton(AF_INET, address, &at.sin_addr);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) exit(1);
    getsockname(listener, (struct sockaddr *)&at, &size);
    printf("%d ", ntohs(at.sin_port));
    return listener;
}

int main(int count, char **words) {
    if (count != 4) return 2;
    least = atoi(words[2]), most = atoi(words[3]);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    read_services();
    epoll = epoll_create1(0);
    for (int i = 0; i < service_count; i++) {
        services[i].listener = listen_on(words[1]);
        epoll_ctl(epoll, EPOLL_CTL_ADD, services[i].listener, &(struct epoll_event){EPOLLIN, {.fd = services[i].listener}});
    }
    epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &(struct epoll_event){EPOLLIN, {.fd = 0}});
    printf("\n");
    fflush(stdout);
    struct epoll_event events[EVENTS];
    for (long told = now_ms();;) {
        int ready = epoll_wait(epoll, events, EVENTS, pending ? 1 : -1);
        if (!pending) told = now_ms();
        for (int i = 0; i < ready; i++) {
            int descriptor = events[i].data.fd, served = 0;
            if (descriptor == 0) return 0;
            for (int j = 0; j < service_count && !served; j++)
                if ((served = services[j].listener == descriptor)) accept_all(&services[j]);
            if (!served) readable(descriptor);
        }
        if (pending) answer_those_due(&told, now_ms());
    }
}
