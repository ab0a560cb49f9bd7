// Forks as fast as it can, and tells on standard output how many children the kernel allowed, when it refuses.
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(void) {
  if (access("/bin/bomb", X_OK) != 0) return 3;  // not in the container it was put into: it would do harm here
  const int parent = getpid();
  int made = 0;
  while (made < 2000) {
    const int pid = fork();
    if (pid < 0) break;
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);  // else they would hold standard output open
      if (getppid() != parent) return 0;  // it ended before we had asked for the signal
      pause();
    }
    ++made;
  }
  printf("%d\n", made);
  return 0;
}
