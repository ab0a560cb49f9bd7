// Sends or receives one TCP stream and prints its rate: the two ends of bench/throughput.py. Static, so that it runs in any container.
// usage: stream receive PORT COUNT           takes COUNT connections, one after the other, and prints "BYTES SECONDS" of each
//        stream send ADDRESS PORT SECONDS    sends for that long
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { buffer_bytes = 128 << 10 };
static char buffer[buffer_bytes];

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int fail(const char* what) {
  fprintf(stderr, "stream: %s: %s\n", what, strerror(errno));
  return 1;
}

static int take_one(int listener) {
  int connection = accept(listener, NULL, NULL);
  if (connection < 0) return fail("accept");
  unsigned long long bytes = 0;
  double begin = 0;
  for (;;) {
    ssize_t got = read(connection, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail("read");
    if (got == 0) break;
    if (bytes == 0) begin = now();
    bytes += (unsigned long long)got;
  }
  close(connection);
  printf("%llu %.6f\n", bytes, bytes == 0 ? 0.0 : now() - begin);
  return fflush(stdout) == 0 ? 0 : fail("write");
}

static int receive(int port, int count) {
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0) return fail("socket");
  int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
  if (bind(listener, (struct sockaddr*)&address, sizeof address) < 0) return fail("bind");
  if (listen(listener, 8) < 0) return fail("listen");
  puts("listening");  // the other end may come now
  fflush(stdout);
  for (int i = 0; i < count; ++i)
    if (take_one(listener) != 0) return 1;
  return 0;
}

static int send_for(const char* host, int port, double seconds) {
  int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connection < 0) return fail("socket");
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
  if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
    errno = EINVAL;
    return fail(host);
  }
  if (connect(connection, (struct sockaddr*)&address, sizeof address) < 0) return fail("connect");
  for (double end = now() + seconds; now() < end;)
    if (write(connection, buffer, sizeof buffer) < 0 && errno != EINTR) return fail("write");
  shutdown(connection, SHUT_WR);
  // The receiver closes once it has read everything; leaving earlier could reset what is still on its way.
  while (read(connection, buffer, sizeof buffer) > 0) {
  }
  return 0;
}

int main(int argc, char** argv) {
  if (argc == 4 && strcmp(argv[1], "receive") == 0) return receive(atoi(argv[2]), atoi(argv[3]));
  if (argc == 5 && strcmp(argv[1], "send") == 0) return send_for(argv[2], atoi(argv[3]), atof(argv[4]));
  fprintf(stderr, "usage: stream receive PORT COUNT | stream send ADDRESS PORT SECONDS\n");
  return 2;
}
