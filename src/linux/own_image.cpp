// Maps the running program anew, part by part, while it runs.
#include "linux/own_image.hpp"

#include <elf.h>
#include <link.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdint>
#include <span>
#include <utility>

#include "linux/process.hpp"
#include "linux/syscall.hpp"

// The linker's own name for the beginning of the program (end(3)).
extern "C" const char __executable_start;  // NOLINT: reserved, by the linker

namespace caisson::linux {

namespace {

using detail::status;

struct Pages {
  std::uintptr_t begin = 0;
  std::size_t size_bytes = 0;
  [[nodiscard]] void* address() const { return reinterpret_cast<void*>(begin); }
};

/// Whole pages, as the kernel maps a part of a program.
Pages pages_around(std::uintptr_t begin, std::size_t size_bytes) {
  const std::uintptr_t page = ::getauxval(AT_PAGESZ);
  const std::uintptr_t first = begin & ~(page - 1);
  return {first, ((begin + size_bytes + page - 1) & ~(page - 1)) - first};
}

/// The program's own headers, as the kernel has told where they are (getauxval(3)).
std::span<const ElfW(Phdr)> own_headers() {
  return {reinterpret_cast<const ElfW(Phdr)*>(::getauxval(AT_PHDR)), ::getauxval(AT_PHNUM)};
}

/// How far from its linked addresses the program lies: 0 unless it is position-independent.
std::uintptr_t load_bias() {
  for (const auto& part : own_headers())
    if (part.p_type == PT_LOAD) return reinterpret_cast<std::uintptr_t>(&__executable_start) - pages_around(part.p_vaddr, 0).begin;
  return 0;
}

/// The same bytes of the same inode at the same place: the text we execute goes on as if nothing had happened.
Status map_again(const ElfW(Phdr) & part, int file) {
  const std::uintptr_t begin = load_bias() + part.p_vaddr;
  const Pages pages = pages_around(begin, part.p_filesz);
  const int protection = ((part.p_flags & PF_R) != 0 ? PROT_READ : 0) | ((part.p_flags & PF_X) != 0 ? PROT_EXEC : 0);
  const auto offset = static_cast<off_t>(part.p_offset - (begin - pages.begin));
  return status("mmap", [&] {
    return ::mmap(pages.address(), pages.size_bytes, protection, MAP_PRIVATE | MAP_FIXED, file, offset) == MAP_FAILED ? -1 : 0;
  });
}

/// Not memcpy: a sanitizer takes what lies between our variables for a mistake.
__attribute__((no_sanitize("address"))) void copy_words(void* to, const void* from, std::size_t size_bytes) {
  auto* target = static_cast<volatile std::uint64_t*>(to);
  const auto* source = static_cast<const volatile std::uint64_t*>(from);
  for (std::size_t i = 0; i < size_bytes / sizeof *target; ++i) target[i] = source[i];
}

/// Puts a copy in memory in the place of what the program may write: its content is not the file's any more. Between the copy and the move
/// nothing is written that lies there. Populated: all of it is written at once.
Status copy_data(const ElfW(Phdr) & part) {
  const Pages pages = pages_around(load_bias() + part.p_vaddr, part.p_filesz);
  void* copy = nullptr;
  TRY_PLAIN(status("mmap", [&] {
    copy = ::mmap(nullptr, pages.size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    return copy == MAP_FAILED ? -1 : 0;
  }));
  copy_words(copy, pages.address(), pages.size_bytes);
  return status("mremap", [&] {
    return ::mremap(copy, pages.size_bytes, pages.size_bytes, MREMAP_MAYMOVE | MREMAP_FIXED, pages.address()) == MAP_FAILED ? -1 : 0;
  });
}

/// What the start of the program made read-only after its relocations (ld(1), -z relro), and the copy is not yet.
Status protect_relocated(const ElfW(Phdr) & part) {
  const std::uintptr_t begin = pages_around(load_bias() + part.p_vaddr, 0).begin;
  // Down to a page's beginning, as libc does it: what follows on the last page is ordinary data.
  const std::uintptr_t end = pages_around(load_bias() + part.p_vaddr + part.p_memsz, 0).begin;
  return status("mprotect", [&] { return ::mprotect(reinterpret_cast<void*>(begin), end - begin, PROT_READ); });
}

/// The only way that needs no CAP_SYS_RESOURCE wants to be told the whole layout of our memory (prctl(2)): it is told what is the case.
Result<struct ::prctl_mm_map> own_layout() {
  const auto fields = TRY_PLAIN(process_stat_fields(0));
  struct ::prctl_mm_map out {};
  const std::pair<__u64*, std::size_t> numbered[] = {  // by proc(5)
      {&out.start_code, 26}, {&out.end_code, 27}, {&out.start_stack, 28}, {&out.start_data, 45}, {&out.end_data, 46},
      {&out.start_brk, 47},  {&out.arg_start, 48}, {&out.arg_end, 49},    {&out.env_start, 50},  {&out.env_end, 51}};
  for (const auto& [member, number] : numbered) *member = TRY(parse_integer<std::uint64_t>(fields[number - 3]), "/proc/self/stat");
  out.brk = reinterpret_cast<std::uintptr_t>(::sbrk(0));  // what libc remembers: no call
  return out;
}

}  // namespace

Status replace_own_file(int file) {
  for (const auto& part : own_headers()) {
    if (part.p_type != PT_LOAD || part.p_filesz == 0) continue;
    TRY((part.p_flags & PF_W) == 0 ? map_again(part, file) : copy_data(part), "our program's image");
  }
  for (const auto& part : own_headers())
    if (part.p_type == PT_GNU_RELRO) TRY(protect_relocated(part), "our program's image");
  auto layout = TRY(own_layout(), "our program's image");
  layout.exe_fd = static_cast<std::uint32_t>(file);  // no auxiliary vector: it stays
  return status("prctl", [&] { return ::prctl(PR_SET_MM, PR_SET_MM_MAP, &layout, sizeof layout, 0); }, "PR_SET_MM_MAP");
}

}  // namespace caisson::linux
