// Fuzzes what a registry or a token server sends in headers and small bodies: every reader copes, and what is accepted is safe to use.
#include "fetch/authorizer.hpp"
#include "fetch/challenge.hpp"
#include "fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  const auto text = fuzz::text_of(data, size);
  for (const auto& challenge : fetch::parse_challenges(text)) fuzz::demand(!challenge.scheme.empty(), "a challenge has a scheme");
  if (auto range = fetch::parse_content_range(text)) fuzz::demand(range->first <= range->last, "a range is not empty");
  fetch::parse_upload_range(text);
  fetch::parse_retry_after(text);
  fetch::next_link(text);
  if (auto error = fetch::parse_registry_error(text)) fuzz::demand(error->text.find('\x1b') == std::string::npos, "no escape reaches a terminal");
  if (auto answer = fetch::parse_token_answer(text); answer.ok()) fuzz::demand(answer->token.find('\n') == std::string::npos, "a token stays on its line");
  auto url = fetch::parse_url(text);
  if (!url.ok()) return 0;
  auto again = fetch::parse_url(url->text());
  fuzz::demand(again.ok() && again->text() == url->text(), "an address means itself");
  fuzz::demand(url->scheme == "http" || url->scheme == "https", "only HTTP");
  return 0;
}
