// What the process that serves a layer may ask of the kernel, and why.
#include "linux/seccomp_layer_server.hpp"

#include "linux/seccomp_groups.hpp"

namespace caisson::linux {
namespace {

const detail::AllowedCalls allowed_calls[] = {
    {"Reads are asked for and answered on /dev/fuse; contents lie in files that the daemon has opened.",
     {"read", "readv", "pread64", "write", "writev", "pwrite64", "lseek", "_llseek", "close", "fstat", "fstat64", "newfstatat", "statx", "fcntl", "fcntl64"},
     {}},
    {"What comes from a registry goes to memory that the fetch process is handed.", {"memfd_create", "ftruncate", "ftruncate64"}, {}},
    {"Speaking to the fetch process and to the daemon, on sockets that are there.", {"sendmsg", "recvmsg", "sendto", "recvfrom", "shutdown"}, {}},
    {"Waiting for both.", {"poll", "ppoll", "ppoll_time64", "eventfd2"}, {}},
};

}  // namespace

SeccompFilterSpec layer_server_seccomp_spec() { return detail::allow_list(allowed_calls); }

Result<SeccompProgram> layer_server_seccomp() {
  auto program = compile_seccomp(layer_server_seccomp_spec());
  if (!program) return std::move(program).error().with_kind(ErrorKind::internal).in("filter of layer servers");
  return program;
}

}  // namespace caisson::linux
