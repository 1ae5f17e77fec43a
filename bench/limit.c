/* The least that a server can do: copy what one client says to all others, and look at nothing.
 *
 * It is what `python -m bench --against limit` holds this server against: an epoll loop that reads, and writes the same
 * bytes to every other connection at once, over TCP or over TLS with client certificates. It reads no events, knows no
 * clients, keeps nothing, and loses what a socket does not take: no server, only the price of the system calls and of
 * the encryption on this machine.
 *
 *     cc -O2 -o limit limit.c -lssl -lcrypto
 *     ./limit PORT [CERTIFICATE KEY CA]
 *
 * It answers a ping, since clients wait for that. One event per read, or several whole ones, is what the loads send.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_CLIENTS = 8192, MOST_BYTES = 1 << 17, MOST_READY = 256 };

struct client {
    int socket;
    int place; /* in clients[] */
    int open;  /* the TLS handshake is done */
    SSL *tls;
};

static struct client *clients[MOST_CLIENTS];
static int count;
static char bytes[MOST_BYTES];
static SSL_CTX *context;
static int ready;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void close_client(struct client *client)
{
    clients[client->place] = clients[--count];
    clients[client->place]->place = client->place;
    if (client->tls)
        SSL_free(client->tls);
    close(client->socket);
    free(client);
}

static void send_to(struct client *client, const char *data, size_t size)
{
    if (!client->tls)
        (void)!send(client->socket, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    else if (client->open)
        SSL_write(client->tls, data, (int)size);
}

static int pong(struct client *client, size_t size)
{
    static const char answer[] =
        "<?xml version='1.0' encoding='UTF-8'?>\n<event version='2.0' uid='takPong' type='t-x-c-t-r' how='h-g-i-g-o' "
        "time='2026-01-01T00:00:00.000Z' start='2026-01-01T00:00:00.000Z' stale='2036-01-01T00:00:00.000Z'>"
        "<point lat='0.0' lon='0.0' hae='0.0' ce='9999999' le='9999999'/><detail/></event>";
    if (!memmem(bytes, size, "t-x-c-t", 7))
        return 0;
    send_to(client, answer, sizeof answer - 1);
    return 1;
}

/* Read once; 0 if the client is gone or may be asked again later. */
static size_t read_from(struct client *client)
{
    if (!client->tls) {
        ssize_t got = recv(client->socket, bytes, sizeof bytes, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN))
            close_client(client);
        return got > 0 ? (size_t)got : 0;
    }
    int result = client->open ? SSL_read(client->tls, bytes, sizeof bytes) : SSL_accept(client->tls);
    if (result > 0) {
        if (client->open)
            return (size_t)result;
        client->open = 1;
        return read_from(client);
    }
    int why = SSL_get_error(client->tls, result);
    if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
        close_client(client);
    return 0;
}

static void copy_from(struct client *client)
{
    size_t size;
    int tls = client->tls != NULL;
    while ((size = read_from(client)) > 0) {
        if (!pong(client, size))
            for (int i = 0; i < count; i++)
                if (clients[i] != client)
                    send_to(clients[i], bytes, size);
        if (!tls) /* TLS may hold more that epoll does not tell of */
            return;
    }
}

static void accept_client(int listening)
{
    int one = 1, socket = accept4(listening, NULL, NULL, SOCK_NONBLOCK);
    if (socket < 0 || count == MOST_CLIENTS) {
        close(socket);
        return;
    }
    struct client *client = calloc(1, sizeof *client);
    if (!client)
        fail("memory");
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    client->socket = socket;
    client->place = count;
    clients[count++] = client;
    if (context) {
        client->tls = SSL_new(context);
        SSL_set_fd(client->tls, socket);
    }
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = client};
    epoll_ctl(ready, EPOLL_CTL_ADD, socket, &wanted);
}

static void prepare_tls(char **files)
{
    context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    if (SSL_CTX_use_certificate_chain_file(context, files[0]) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, files[1], SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_load_verify_locations(context, files[2], NULL) != 1) {
        fprintf(stderr, "the certificate, the key or the authority cannot be used\n");
        exit(1);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2 && argc != 5) {
        fprintf(stderr, "usage: %s PORT [CERTIFICATE KEY CA]\n", argv[0]);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    if (argc == 5)
        prepare_tls(argv + 2);
    int one = 1, listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listening, (struct sockaddr *)&address, sizeof address) || listen(listening, 1024))
        fail("listening");
    ready = epoll_create1(0);
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = NULL}, happened[MOST_READY];
    epoll_ctl(ready, EPOLL_CTL_ADD, listening, &wanted);
    for (;;) {
        int many = epoll_wait(ready, happened, MOST_READY, -1);
        for (int i = 0; i < many; i++)
            if (happened[i].data.ptr)
                copy_from(happened[i].data.ptr);
            else
                accept_client(listening);
    }
}
