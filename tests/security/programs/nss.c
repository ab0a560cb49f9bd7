// A library that tells that it was loaded (CVE-2019-14271): it makes the file whose path the test has written over the placeholder.
#include <fcntl.h>
#include <unistd.h>

const char told_at[512] = "PLACE-OF-THE-FILE";

__attribute__((constructor)) static void tell(void) { close(open(told_at, O_CREAT | O_WRONLY, 0644)); }
