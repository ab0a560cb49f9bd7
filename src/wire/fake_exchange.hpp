// FakeExchange: a request in memory, for the tests of whatever answers requests.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/socket.hpp"
#include "wire/http_server.hpp"

namespace caisson::wire {

/// A request in memory; what the handler answers is kept.
class FakeExchange : public Exchange {
 public:
  FakeExchange(std::string method, std::string_view target, std::string body = "", Headers headers = {})
      : method_(std::move(method)), headers_(std::move(headers)), body_(std::move(body)) {
    auto halves = split_once(target, '?');
    path_ = halves.before;
    query_ = halves.after;
  }

  int status = 0;
  Headers answer_headers;
  std::string answer;
  bool ended = false;
  UniqueFd client;  ///< the other end, after a hijack
  Peer who;

  [[nodiscard]] std::string answer_header(std::string_view name) const {
    for (const auto& [key, value] : answer_headers)
      if (lower(key) == lower(name)) return value;
    return {};
  }

  [[nodiscard]] const std::string& method() const override { return method_; }
  [[nodiscard]] const std::string& path() const override { return path_; }
  [[nodiscard]] const std::string& query() const override { return query_; }
  [[nodiscard]] std::string_view header(std::string_view name) const override {
    for (const auto& [key, value] : headers_)
      if (lower(key) == lower(name)) return value;
    return {};
  }
  [[nodiscard]] const Peer& peer() const override { return who; }
  Result<std::string> read_body(std::size_t limit) override {
    if (body_.size() > limit) return Error(ErrorKind::invalid, "request body too large");
    return std::exchange(body_, {});
  }
  Result<std::string> read_body_some() override { return std::exchange(body_, {}); }
  [[nodiscard]] Cancel cancel() const override { return {}; }
  Status respond(int code, const Headers& headers, std::string_view body) override {
    status = code;
    answer_headers = headers;
    answer = method_ == "HEAD" ? "" : body;
    ended = true;
    return {};
  }
  Status respond_file(int code, const Headers& headers, int file, std::uint64_t offset, std::uint64_t size_bytes) override {
    std::string bytes(static_cast<std::size_t>(size_bytes), '\0');
    if (method_ != "HEAD") TRY_PLAIN(linux::pread(file, bytes, offset));  // as the server: there may be no file then
    return respond(code, headers, bytes);
  }
  Status begin(int code, const Headers& headers) override {
    status = code;
    answer_headers = headers;
    return {};
  }
  Status write(std::string_view bytes) override {
    answer += bytes;
    return {};
  }
  Status end() override {
    ended = true;
    return {};
  }
  Result<Hijacked> hijack(std::string_view head) override {
    auto ends = TRY_PLAIN(linux::socketpair(linux::UnixType::stream));
    client = std::move(ends.second);
    status = 101;
    answer = head;
    Hijacked taken;
    taken.socket = std::move(ends.first);
    taken.pending = std::exchange(body_, {});
    return taken;
  }
  Result<UniqueFd> hijack_through(std::string_view head, std::unique_ptr<Codec>) override { return std::move(TRY_PLAIN(hijack(head)).socket); }
  [[nodiscard]] bool answered() const override { return status != 0; }

 private:
  std::string method_;
  std::string path_;
  std::string query_;
  Headers headers_;
  std::string body_;
};

}  // namespace caisson::wire
