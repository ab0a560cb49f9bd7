// Fuzzes what systemd's answers and annotations are read with: a D-Bus message or GVariant text that reads can be written, and
// what was written reads the same.
#include "fuzz/fuzz.hpp"
#include "linux/dbus_message.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  const auto bytes = fuzz::text_of(data, size);
  if (auto message = linux::decode_dbus_message(bytes)) {
    auto written = linux::encode_dbus_message(*message);
    fuzz::demand(written.ok(), "what was read can be written");
    if (written->size() <= linux::dbus_message_limit_bytes) {
      auto again = linux::decode_dbus_message(*written);
      fuzz::demand(again.ok() && *again == *message, "what was written reads the same");
    }
  }
  if (auto value = linux::parse_gvariant(bytes)) {
    linux::DbusMessage message;
    message.body.push_back(std::move(*value));
    // Text with a NUL and signatures beyond 255 bytes have no D-Bus form; everything else must read back.
    if (auto written = linux::encode_dbus_message(message); written && written->size() <= linux::dbus_message_limit_bytes) {
      auto again = linux::decode_dbus_message(*written);
      fuzz::demand(again.ok() && again->body == message.body, "a value of GVariant text survives the wire");
    }
  }
  return 0;
}
