// Fuzzes the whole API over an engine that does nothing: any method, path, query and body gets an answer, and a refusal is docker's JSON.
#include "api/api.hpp"
#include "api/fake_builder.hpp"
#include "api/fake_engine.hpp"
#include "base/json.hpp"
#include "base/strings.hpp"
#include "fuzz/fuzz.hpp"
#include "linux/event.hpp"

namespace {
/// Its client has left already, so that no stream goes on.
class LeftExchange final : public caisson::api::FakeExchange {
 public:
  using FakeExchange::FakeExchange;
  [[nodiscard]] caisson::Cancel cancel() const override { return {gone_.get()}; }

 private:
  caisson::UniqueFd gone_ = caisson::linux::eventfd(1).value_or(caisson::UniqueFd());
};
}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  // "POST /containers/create?name=x\n" and the body.
  auto halves = split_once(fuzz::text_of(data, size), '\n');
  auto request = split_once(halves.before, ' ');
  api::FakeEngine engine;
  api::FakeBuilder builder;
  auto handler = api::create_api(engine, builder, api::ApiOptions{});
  LeftExchange exchange(std::string(request.before), request.after, std::string(halves.after), {{"Content-Type", "application/json"}});
  handler(exchange);
  fuzz::demand(exchange.status >= 100 && exchange.status < 600, "every request is answered");
  if (request.before == "HEAD") {
    fuzz::demand(exchange.answer.empty(), "HEAD has no body");
    return 0;
  }
  if (exchange.status < 400 || exchange.answer_header("Content-Type") != "application/json") return 0;
  auto answer = parse_json(exchange.answer, "answer");
  fuzz::demand(answer.ok() && answer->is_object() && answer->get_object().contains("message"), "a refusal is {\"message\": …}");
  return 0;
}
