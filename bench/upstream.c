/* The fake upstream: serves responses from memory, one port per service, after a delay; one thread with epoll.
 *
 * upstream ADDRESS MIN_DELAY MAX_DELAY < services    delays in milliseconds; prints the ports, serves until stdin closes
 *
 * A service is a line `service KEEP_ALIVE COUNT`, then for each document a line `PATH LENGTH` and LENGTH bytes: the HTTP
 * response with its headers. The path * is the response for all other paths. If KEEP_ALIVE is 1, connections stay open.
 * In a response, @S@ is the number of the cluster, and @0@, @1@ and @2@ are the addresses and ports of its three members,
 * if the client has connected to a member: 127.1.0.1, 127.1.0.2 and so on, of which every three are a cluster.
 * /counts on each port returns the number of requests of each document as JSON. */
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

struct document { char path[128]; char *response; size_t length; long requests; int is_template; };
struct service { int listener, keep_alive, count; struct document documents[DOCUMENTS]; };
/* A delayed response in a slot of one millisecond; dropped if the descriptor's generation has changed since. */
struct delayed { int descriptor; unsigned generation; struct document *document; struct delayed *next; };
struct connection { struct service *service; unsigned generation; size_t read; char request[2048]; };

static struct service services[SERVICES];
static int service_count, min_delay, max_delay, epoll, pending;
static struct connection *connections[DESCRIPTORS];
static struct delayed *slots[SLOTS];

static long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void close_connection(int descriptor) {
    connections[descriptor]->generation++;
    close(descriptor);
}

/* Writes a template for the cluster of the address that the client has connected to; returns the length. */
static size_t fill(int descriptor, struct document *document, char *out) {
    struct sockaddr_in at;
    socklen_t size = sizeof at;
    getsockname(descriptor, (struct sockaddr *)&at, &size);
    unsigned ip = ntohl(at.sin_addr.s_addr), port = ntohs(at.sin_port);
    int number = ((ip >> 16 & 255) - 1) * 62500 + (ip >> 8 & 255) * 250 + (ip & 255) - 1, first = number < 0 ? 0 : number / 3 * 3;
    char *start = out;
    for (char *in = document->response, *end = in + document->length; in < end;) {
        if (*in != '@' || in + 2 >= end || in[2] != '@') { *out++ = *in++; continue; }
        int member = first + in[1] - '0';
        out += in[1] == 'S' ? sprintf(out, "%d", first / 3)
                            : sprintf(out, "127.%d.%d.%d:%u", 1 + member / 62500, member / 250 % 250, 1 + member % 250, port);
        in += 3;
    }
    return out - start;
}

static void respond(int descriptor, struct document *document) {
    static char filled[1 << 16];
    size_t length = document->is_template ? fill(descriptor, document, filled) : document->length;
    char *response = document->is_template ? filled : document->response;
    if (send(descriptor, response, length, MSG_NOSIGNAL) < 0 || !connections[descriptor]->service->keep_alive)
        close_connection(descriptor);
}

static void send_counts(int descriptor, struct service *service) {
    char body[4096] = "{", head[128];
    size_t length = 1;
    for (int i = 0; i < service->count; i++)
        length += snprintf(body + length, sizeof body - length, "%s\"%s\": %ld", i ? ", " : "",
                           service->documents[i].path, service->documents[i].requests);
    body[length++] = '}';
    int head_length = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", length);
    if (send(descriptor, head, head_length, MSG_NOSIGNAL) > 0) send(descriptor, body, length, MSG_NOSIGNAL);
    close_connection(descriptor);
}

static void handle_request(int descriptor) {
    struct connection *connection = connections[descriptor];
    struct service *service = connection->service;
    char *path = strchr(connection->request, ' ');
    connection->read = 0;
    if (!path || !strchr(path + 1, ' ')) { close_connection(descriptor); return; }
    *strchr(++path, ' ') = 0;
    if (!strcmp(path, "/counts")) { send_counts(descriptor, service); return; }
    struct document *document = service->documents;
    while (strcmp(document->path, "*") && strcmp(document->path, path)) document++;
    document->requests++;
    if (!max_delay) { respond(descriptor, document); return; }
    struct delayed *delayed = malloc(sizeof *delayed), **slot;
    slot = &slots[(now_ms() + min_delay + rand() % (max_delay - min_delay + 1)) % SLOTS];
    *delayed = (struct delayed){descriptor, connection->generation, document, *slot};
    *slot = delayed;
    pending++;
}

static void readable(int descriptor) {
    struct connection *connection = connections[descriptor];
    ssize_t received = recv(descriptor, connection->request + connection->read, sizeof connection->request - 1 - connection->read, 0);
    if (received <= 0) { close_connection(descriptor); return; }
    connection->read += received;
    connection->request[connection->read] = 0;
    if (strstr(connection->request, "\r\n\r\n")) handle_request(descriptor);
    else if (connection->read == sizeof connection->request - 1) close_connection(descriptor);
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

static void send_due(long *slot_time, long now) {
    for (; *slot_time <= now; ++*slot_time)
        for (struct delayed *delayed = slots[*slot_time % SLOTS], *next; delayed || (slots[*slot_time % SLOTS] = NULL); delayed = next) {
            next = delayed->next;
            if (connections[delayed->descriptor]->generation == delayed->generation) respond(delayed->descriptor, delayed->document);
            free(delayed);
            pending--;
        }
}

static void read_services(void) {
    char line[256];
    struct service *service = NULL;
    while (fgets(line, sizeof line, stdin) && strcmp(line, "serve\n")) {
        int keep_alive, count;
        if (sscanf(line, "service %d %d", &keep_alive, &count) == 2) {
            service = &services[service_count++];
            service->keep_alive = keep_alive;
            continue;
        }
        struct document *document = &service->documents[service->count++];
        if (sscanf(line, "%127s %zu", document->path, &document->length) != 2) exit(2);
        document->response = malloc(document->length);
        if (fread(document->response, 1, document->length, stdin) != document->length) exit(2);
        document->is_template = !!memmem(document->response, document->length, "@0@", 3);
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

int main(int count, char **arguments) {
    if (count != 4) return 2;
    min_delay = atoi(arguments[2]), max_delay = atoi(arguments[3]);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    read_services();
    epoll = epoll_create1(0);
    for (int i = 0; i < service_count; i++) {
        services[i].listener = listen_on(arguments[1]);
        epoll_ctl(epoll, EPOLL_CTL_ADD, services[i].listener, &(struct epoll_event){EPOLLIN, {.fd = services[i].listener}});
    }
    epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &(struct epoll_event){EPOLLIN, {.fd = 0}});
    printf("\n");
    fflush(stdout);
    struct epoll_event events[EVENTS];
    for (long slot_time = now_ms();;) {
        int ready = epoll_wait(epoll, events, EVENTS, pending ? 1 : -1);
        if (!pending) slot_time = now_ms();
        for (int i = 0; i < ready; i++) {
            int descriptor = events[i].data.fd, served = 0;
            if (descriptor == 0) return 0;
            for (int j = 0; j < service_count && !served; j++)
                if ((served = services[j].listener == descriptor)) accept_all(&services[j]);
            if (!served) readable(descriptor);
        }
        if (pending) send_due(&slot_time, now_ms());
    }
}
