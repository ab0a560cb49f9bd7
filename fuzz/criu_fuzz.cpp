// Fuzzes CRIU's answers: any bytes are a message or an error.
#include "fuzz/fuzz.hpp"
#include "runtime/criu.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  const auto bytes = fuzz::text_of(data, size);
  auto message = runtime::decode_criu_message(bytes);
  if (!message.ok()) fuzz::demand(message.error().kind() == ErrorKind::corrupt, "a refusal says what it is");
  fuzz::demand(runtime::criu_log_reason(bytes).size() <= bytes.size() + 8, "a reason is made of the log's lines");
  return 0;
}
