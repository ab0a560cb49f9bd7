// The one place that includes Boost.Beast: its callback parser, wrapped (libraries.md section 2: a Beast unit costs 5 s to compile).
#include "wire/http_parser.hpp"

#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>
#include <algorithm>
#include <limits>

#include "base/strings.hpp"

namespace caisson::wire {

namespace {

namespace http = boost::beast::http;
using boost::beast::error_code;
using boost::beast::string_view;

/// Beast 1.81 asserts that the last chunk is offered with at least the 5 bytes of "0\r\n\r\n" (found by fuzzing). No chunked
/// body ends with less, so waiting for them delays nothing but framing.
bool may_be_short_last_chunk(std::string_view bytes) {
  constexpr std::size_t least_bytes = 5;
  std::string_view line = bytes.starts_with("\r\n") ? bytes.substr(2) : bytes;
  return bytes.size() < least_bytes && (line.empty() || line[0] == '0' || line == "\r");
}

std::string text_of(string_view view) { return {view.data(), view.size()}; }

/// The callbacks that requests and answers share. Trailer fields reach on_field_impl too; they are dropped, because nothing
/// that was decided from the head may change afterwards.
template <bool is_request>
class Collector final : public http::basic_parser<is_request> {
 public:
  MessageHead head;
  bool in_head = true;
  std::string* body = nullptr;

 private:
  void on_request_impl(http::verb /*known*/, string_view method, string_view target, int version, error_code& code) override {
    code = {};
    head.method = text_of(method);
    head.target = text_of(target);
    head.version = version;
  }
  void on_response_impl(int status, string_view /*reason*/, int version, error_code& code) override {
    code = {};
    head.status = status;
    head.version = version;
  }
  void on_field_impl(http::field /*known*/, string_view name, string_view value, error_code& code) override {
    code = {};
    if (in_head) head.headers.emplace_back(text_of(name), text_of(value));
  }
  void on_header_impl(error_code& code) override {
    code = {};
    in_head = false;
  }
  void on_body_init_impl(const boost::optional<std::uint64_t>& /*length*/, error_code& code) override { code = {}; }
  std::size_t on_body_impl(string_view bytes, error_code& code) override {
    code = {};
    body->append(bytes.data(), bytes.size());
    return bytes.size();
  }
  void on_chunk_header_impl(std::uint64_t /*size*/, string_view /*extensions*/, error_code& code) override { code = {}; }
  std::size_t on_chunk_body_impl(std::uint64_t /*remain*/, string_view bytes, error_code& code) override {
    code = {};
    body->append(bytes.data(), bytes.size());
    return bytes.size();
  }
  void on_finish_impl(error_code& code) override { code = {}; }
};

template <bool is_request>
class BeastParser final : public MessageParser {
 public:
  BeastParser(std::size_t max_header_bytes, bool to_head) : max_header_bytes_(max_header_bytes) {
    // Beast counts only what it was offered at once; the sum over all pieces is ours to bound (see take()).
    parser_.header_limit(static_cast<std::uint32_t>(std::min<std::size_t>(max_header_bytes, std::numeric_limits<std::uint32_t>::max())));
    parser_.body_limit(boost::none);  // limits are per route
    if (to_head) parser_.skip(true);
  }

  Result<std::size_t> take(std::string_view bytes, std::string& body) override {
    if (failure_status_ != 0) return Error(ErrorKind::invalid, "the message is broken already");
    parser_.body = &body;
    std::size_t taken = 0;
    while (!parser_.is_done()) {
      const bool in_head = parser_.in_head;
      const std::string_view rest = bytes.substr(taken);
      // A start line or a chunk header needs at least one byte; an empty put would only say need_more.
      if (rest.empty()) break;
      if (!in_head && parser_.chunked() && may_be_short_last_chunk(rest)) break;
      error_code code;
      const std::size_t step = parser_.put(boost::asio::const_buffer(rest.data(), rest.size()), code);
      taken += step;
      if (in_head) head_bytes_ += step;
      if (code == http::error::need_more) {
        if (rest.size() - step > max_header_bytes_ || head_bytes_ > max_header_bytes_) return too_large(in_head);
        break;
      }
      if (code) return broken(code);
      if (in_head && head_bytes_ > max_header_bytes_) return too_large(true);
      if (in_head && !parser_.in_head) {
        auto checked = complete_head();
        if (!checked.ok()) return std::move(checked).error();
        break;
      }
    }
    return taken;
  }

  Status finish() override {
    if (parser_.is_done()) return {};
    if (!parser_.got_some()) return Error(ErrorKind::corrupt, "connection closed before the first byte");
    error_code code;
    parser_.put_eof(code);
    if (code) return Error(ErrorKind::corrupt, concat("message is cut off: ", code.message()));
    return {};
  }

  [[nodiscard]] bool head_done() const override { return !parser_.in_head; }
  [[nodiscard]] bool done() const override { return parser_.is_done(); }
  [[nodiscard]] const MessageHead& head() const override { return parser_.head; }
  [[nodiscard]] int failure_status() const override { return failure_status_; }

 private:
  Error too_large(bool in_head) {
    failure_status_ = in_head ? 431 : 400;
    return {ErrorKind::invalid, concat(in_head ? "request header" : "chunk header or trailer", " is longer than ", max_header_bytes_, " bytes")};
  }

  Error broken(const error_code& code) {
    if (code == http::error::header_limit) return too_large(true);
    failure_status_ = code == http::error::bad_version ? 505 : 400;
    return {ErrorKind::invalid, concat("malformed HTTP message: ", code.message())};
  }

  /// What RFC 9112 asks beyond Beast's own checks; each is a known way to smuggle a second request past a proxy.
  Status complete_head() {
    auto& head = parser_.head;
    head.keep_alive = parser_.keep_alive();
    if (auto length = parser_.content_length()) head.content_length = *length;
    head.has_body = parser_.chunked() || (head.content_length && *head.content_length > 0) || parser_.need_eof();
    if constexpr (is_request) {
      auto refuse = [&](std::string_view why) -> Status {
        failure_status_ = 400;
        return Error(ErrorKind::invalid, concat("malformed HTTP message: ", why));
      };
      // Section 6.3: a transfer coding whose last step is not "chunked" leaves the length unknown.
      if (!find_header(head.headers, "Transfer-Encoding").empty() && !parser_.chunked())
        return refuse("unknown transfer coding");
      if (parser_.chunked() && head.version < 11) return refuse("chunked body in HTTP/1.0");
      // Section 3.2: exactly one Host in HTTP/1.1.
      const auto hosts = std::count_if(head.headers.begin(), head.headers.end(),
                                       [](const auto& field) { return lower(field.first) == "host"; });
      if (hosts > 1) return refuse("more than one Host header");
      if (hosts == 0 && head.version >= 11) return refuse("missing required Host header");
    }
    return {};
  }

  Collector<is_request> parser_;
  std::size_t max_header_bytes_;
  std::size_t head_bytes_ = 0;
  int failure_status_ = 0;
};

}  // namespace

std::string_view find_header(const Headers& headers, std::string_view name) {
  for (const auto& [key, value] : headers) {
    if (key.size() == name.size() &&
        std::equal(key.begin(), key.end(), name.begin(), [](char a, char b) {
          auto fold = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
          return fold(a) == fold(b);
        }))
      return value;
  }
  return {};
}

std::unique_ptr<MessageParser> create_request_parser(std::size_t max_header_bytes) {
  return std::make_unique<BeastParser<true>>(max_header_bytes, false);
}

std::unique_ptr<MessageParser> create_response_parser(std::size_t max_header_bytes, bool to_head) {
  return std::make_unique<BeastParser<false>>(max_header_bytes, to_head);
}

}  // namespace caisson::wire
