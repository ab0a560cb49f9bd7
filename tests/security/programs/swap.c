// Exchanges two names with each other until it is killed (renameat2(2), RENAME_EXCHANGE): the attacker of check-then-use races. A name that
// is missing for a moment, because the other side of the race makes it anew, is no reason to give up.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  for (;;) renameat2(AT_FDCWD, argv[1], AT_FDCWD, argv[2], RENAME_EXCHANGE);
}
