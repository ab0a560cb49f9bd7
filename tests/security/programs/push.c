// Pushes a line into the input of the terminal on standard input (TIOCSTI). Prints "errno N" or "pushed".
#include <errno.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

int main(void) {
  for (const char* c = "echo stolen >&2\n"; *c != 0; ++c)
    if (ioctl(0, TIOCSTI, c) != 0) {
      // Perhaps the terminal can be made ours first.
      if (ioctl(0, TIOCSCTTY, 1) == 0 && ioctl(0, TIOCSTI, c) == 0) continue;
      printf("errno %d\n", errno);
      return 0;
    }
  printf("pushed\n");
  return 0;
}
