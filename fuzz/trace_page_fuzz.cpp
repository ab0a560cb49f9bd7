// Fuzzes pages of the kernel's trace and the formats of its events: no length leads out of the page, and every record has its number.
#include "fuzz/fuzz.hpp"
#include "linux/trace_page.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  const auto text = fuzz::text_of(data, size);
  if (auto page = linux::parse_trace_page(text); page.ok()) {
    std::size_t bytes = 0;
    for (const auto& record : page->records) {
      fuzz::demand(record.bytes.size() >= sizeof record.event_id, "a record has its number");
      bytes += record.bytes.size();
      (void)linux::trace_number(record, {4, 4, true}).ok();
    }
    fuzz::demand(bytes <= size, "records lie in the page, one behind the other");
  }
  if (auto format = linux::parse_trace_format(text); format.ok())
    for (const auto& [name, field] : format->fields) fuzz::demand(!name.empty() && (field.size == 1 || field.size == 2 || field.size == 4 || field.size == 8), "a field holds one number");
  return 0;
}
