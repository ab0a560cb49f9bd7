// Fuzzes the kernel's audit records, which hold names that containers chose: a refusal names a process, and nothing a terminal would obey.
#include "fuzz/fuzz.hpp"
#include "linux/kernel_audit.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  const auto text = fuzz::text_of(data, size);
  for (const std::uint16_t type : {std::uint16_t{1326}, std::uint16_t{1400}, std::uint16_t{1300}}) {
    const auto record = linux::parse_audit_record(type, text);
    if (!record) continue;
    fuzz::demand(record->pid > 0, "a refusal has a process");
    for (const char c : record->program) fuzz::demand(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f, "no control character is passed on");
  }
  return 0;
}
