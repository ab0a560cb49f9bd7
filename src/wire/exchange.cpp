// One request and its answer on one connection.
#include <algorithm>
#include <array>
#include <ctime>
#include <exception>

#include "base/json.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "wire/connection.hpp"

namespace caisson::wire {

namespace {

constexpr std::size_t head_read_bytes = 16 << 10;
constexpr std::size_t body_read_bytes = 64 << 10;
/// What a handler left unread is read and dropped up to here, to keep the connection; beyond, closing is cheaper.
constexpr std::size_t most_drained_bytes = 256 << 10;

std::string_view reason_phrase(int status) {
  switch (status) {
    case 100: return "Continue";
    case 101: return "Switching Protocols";
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 206: return "Partial Content";
    case 301: return "Moved Permanently";
    case 304: return "Not Modified";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 406: return "Not Acceptable";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 412: return "Precondition Failed";
    case 413: return "Content Too Large";
    case 415: return "Unsupported Media Type";
    case 416: return "Range Not Satisfiable";
    case 426: return "Upgrade Required";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    case 507: return "Insufficient Storage";
    default: return "Status";
  }
}

/// "Fri, 20 Nov 2026 17:04:14 GMT" (RFC 9110, 5.6.7), without strftime: its names would follow the locale.
std::string http_date() {
  constexpr std::array days{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr std::array months{"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::time_t now = now_ns() / 1'000'000'000;
  std::tm parts{};
  if (gmtime_r(&now, &parts) == nullptr) return {};
  auto two = [](int number) { return number < 10 ? concat("0", number) : concat(number); };
  return concat(days[static_cast<std::size_t>(parts.tm_wday)], ", ", two(parts.tm_mday), " ", months[static_cast<std::size_t>(parts.tm_mon)],
                " ", parts.tm_year + 1900, " ", two(parts.tm_hour), ":", two(parts.tm_min), ":", two(parts.tm_sec), " GMT");
}

/// A value may come from a user's text; a line break in it would let that text write headers.
void append_header(std::string& out, std::string_view name, std::string_view value) {
  out += name;
  out += ": ";
  for (char c : value) out += c == '\r' || c == '\n' || c == '\0' ? ' ' : c;
  out += "\r\n";
}

void append_json_string(std::string& out, std::string_view text) {
  out += to_text(json::string(text));
}

bool has_no_body(int status) { return status / 100 == 1 || status == 204 || status == 304; }

class ConnectionExchange final : public Exchange {
 public:
  ConnectionExchange(Connection& connection, MessageParser& parser, std::string first_body, const ServerOptions& options, const Detach& detach,
                     const DetachThrough& detach_through)
      : connection_(connection), parser_(parser), body_(std::move(first_body)), options_(options), detach_(detach), detach_through_(detach_through) {
    split_target();
    expects_continue_ = head().version >= 11 && lower(find_header(head().headers, "Expect")) == "100-continue" && !parser_.done();
  }

  [[nodiscard]] const std::string& method() const override { return head().method; }
  [[nodiscard]] const std::string& path() const override { return path_; }
  [[nodiscard]] const std::string& query() const override { return query_; }
  [[nodiscard]] std::string_view header(std::string_view name) const override { return find_header(head().headers, name); }
  [[nodiscard]] const Peer& peer() const override { return connection_.peer; }
  /// An epoll descriptor that watches for the hang-up only: readable then, whatever bytes wait on the socket itself.
  [[nodiscard]] Cancel cancel() const override {
    if (hangup_) return Cancel{hangup_.get()};
    auto epoll = linux::epoll_create();
    if (!epoll.ok() || !linux::epoll_add(epoll->get(), connection_.stream.fd(), EPOLLRDHUP, 0).ok()) return Cancel{};  // out of descriptors: not cancellable
    hangup_ = std::move(*epoll);
    return Cancel{hangup_.get()};
  }
  [[nodiscard]] bool answered() const override { return phase_ != Phase::fresh; }

  Result<std::string> read_body(std::size_t limit_bytes) override {
    if (head().content_length && *head().content_length > limit_bytes) return too_large(limit_bytes);
    std::string all;
    const std::int64_t deadline = deadline_after(options_.header_timeout_ms);
    for (;;) {
      std::string piece = TRY(read_piece(deadline), "read request body");
      if (piece.empty()) return all;
      if (all.size() + piece.size() > limit_bytes) return too_large(limit_bytes);
      if (all.empty())
        all = std::move(piece);
      else
        all += piece;
    }
  }

  /// Without a deadline: an import may come from a pipe that pauses for as long as it likes.
  Result<std::string> read_body_some() override { return read_piece(no_deadline); }

  Status respond(int status, const Headers& headers, std::string_view body) override {
    if (phase_ != Phase::fresh) return Error(ErrorKind::internal, "request was answered already");
    phase_ = Phase::done;
    ignore(absorb_buffered());  // a broken body may well be what is being answered
    if (!parser_.done()) close_after_ = true;
    std::string text = status_line(status);
    append_headers(text, headers);
    if (!has_no_body(status)) append_header(text, "Content-Length", concat(body.size()));
    append_connection(text);
    const bool without_body = has_no_body(status) || head().method == "HEAD";
    return send({text, without_body ? std::string_view() : body});
  }

  Status respond_file(int status, const Headers& headers, int file, std::uint64_t offset, std::uint64_t size_bytes) override {
    if (phase_ != Phase::fresh) return Error(ErrorKind::internal, "request was answered already");
    phase_ = Phase::done;
    ignore(absorb_buffered());
    if (!parser_.done()) close_after_ = true;
    std::string text = status_line(status);
    append_headers(text, headers);
    append_header(text, "Content-Length", concat(size_bytes));
    append_connection(text);
    TRY_PLAIN(send({text}));
    if (head().method == "HEAD" || size_bytes == 0) return {};
    auto sent = send_file(file, offset, size_bytes);
    if (!sent.ok()) broken_ = true;  // the length was promised: only the connection's end tells that less came
    return sent;
  }

  Status begin(int status, const Headers& headers) override {
    if (phase_ != Phase::fresh) return Error(ErrorKind::internal, "request was answered already");
    phase_ = Phase::begun;
    chunked_ = head().version >= 11;
    if (!chunked_) close_after_ = true;
    connection_.streaming = true;
    std::string text = status_line(status);
    append_headers(text, headers);
    if (chunked_) append_header(text, "Transfer-Encoding", "chunked");
    append_connection(text);
    return send({text});
  }

  Status write(std::string_view bytes) override {
    if (phase_ != Phase::begun) return Error(ErrorKind::internal, "answer was not begun or has ended");
    if (bytes.empty() || head().method == "HEAD") return {};  // an empty chunk would end the body
    if (!chunked_) return send({bytes});
    char size[20];
    const auto end = std::to_chars(size, size + sizeof size - 2, bytes.size(), 16).ptr;
    end[0] = '\r';
    end[1] = '\n';
    return send({std::string_view(size, static_cast<std::size_t>(end + 2 - size)), bytes, "\r\n"});
  }

  Status end() override {
    if (phase_ != Phase::begun) return Error(ErrorKind::internal, "answer was not begun or has ended");
    phase_ = Phase::done;
    connection_.streaming = false;
    if (!chunked_ || head().method == "HEAD") return {};
    return send({"0\r\n\r\n"});
  }

  Result<Hijacked> hijack(std::string_view head_text) override {
    if (phase_ != Phase::fresh) return Error(ErrorKind::internal, "request was answered already");
    TRY_PLAIN(send({head_text}));
    phase_ = Phase::hijacked;
    Hijacked taken;
    taken.socket = TRY(detach_(connection_), "hijack");
    taken.pending = std::move(connection_.buffer);
    return taken;
  }

  Result<UniqueFd> hijack_through(std::string_view head_text, std::unique_ptr<Codec> codec) override {
    if (phase_ != Phase::fresh) return Error(ErrorKind::internal, "request was answered already");
    TRY_PLAIN(send({head_text}));
    phase_ = Phase::hijacked;
    return TRY(detach_through_(connection_, std::move(codec)), "hijack");
  }

  /// After the handler: settles what it left open.
  Outcome settle() {
    if (phase_ == Phase::hijacked) return Outcome::hijacked;
    if (phase_ == Phase::fresh) ignore(respond_error(500, "the request was not answered"));  // a dead client is found right below
    if (broken_ || phase_ == Phase::begun) return Outcome::close;  // a missing last chunk tells the client that it got a part only
    if (!parser_.done() && (expects_continue_ || !drain())) return Outcome::linger;
    return close_after_ || !head().keep_alive ? Outcome::close : Outcome::keep;
  }

  Status respond_error(int status, std::string_view message) {
    std::string body = "{\"message\":";
    append_json_string(body, message);
    body += "}\n";
    return respond(status, {{"Content-Type", "application/json"}}, body);
  }

 private:
  enum class Phase : std::uint8_t { fresh, begun, done, hijacked };

  [[nodiscard]] const MessageHead& head() const { return parser_.head(); }

  /// "/a?b", or the absolute form "http://host/a?b" (RFC 9112, 3.2.2).
  void split_target() {
    std::string_view target = head().target;
    for (std::string_view scheme : {"http://", "https://"}) {
      if (!target.starts_with(scheme)) continue;
      const auto slash = target.find('/', scheme.size());
      target = slash == std::string_view::npos ? std::string_view("/") : target.substr(slash);
    }
    auto halves = split_once(target.substr(0, target.find('#')), '?');
    path_ = halves.before;
    query_ = halves.after;
  }

  static Error too_large(std::size_t limit_bytes) {
    return {ErrorKind::invalid, concat("request body too large (at most ", limit_bytes, " bytes)")};
  }

  Status absorb_buffered() {
    if (parser_.done() || connection_.buffer.empty()) return {};
    auto taken = parser_.take(connection_.buffer, body_);
    if (!taken.ok()) {
      close_after_ = true;
      return std::move(taken).error();
    }
    connection_.buffer.erase(0, *taken);
    return {};
  }

  Result<std::string> read_piece(std::int64_t deadline_ns) {
    for (;;) {
      if (!body_.empty()) return std::exchange(body_, {});
      if (parser_.done()) return std::string();
      TRY_PLAIN(absorb_buffered());
      if (!body_.empty() || parser_.done()) continue;
      if (std::exchange(expects_continue_, false) && phase_ == Phase::fresh) TRY_PLAIN(send({"HTTP/1.1 100 Continue\r\n\r\n"}));
      auto got = connection_.stream.read_some(connection_.buffer, body_read_bytes, deadline_ns);
      if (!got.ok() || *got == 0) broken_ = true;
      if (!got.ok()) return std::move(got).error();
      if (*got == 0) return Error(ErrorKind::io, "client closed the connection in the middle of the request body");
    }
  }

  /// Reads and drops the rest of the body. False when that is too much or too slow.
  bool drain() {
    const std::int64_t deadline = deadline_after(1000);
    for (std::size_t total = 0; total <= most_drained_bytes;) {
      auto piece = read_piece(deadline);
      if (!piece.ok()) return false;
      if (piece->empty()) return true;
      total += piece->size();
    }
    return false;
  }

  [[nodiscard]] std::string status_line(int status) const {
    return concat(head().version >= 11 ? "HTTP/1.1 " : "HTTP/1.0 ", status, " ", reason_phrase(status), "\r\n");
  }

  static void append_headers(std::string& text, const Headers& headers) {
    for (const auto& [name, value] : headers) append_header(text, name, value);
    append_header(text, "Date", http_date());
  }

  void append_connection(std::string& text) const {
    if (close_after_ || !head().keep_alive)
      append_header(text, "Connection", "close");
    else if (head().version < 11)
      append_header(text, "Connection", "keep-alive");
    text += "\r\n";
  }

  Status send(std::initializer_list<std::string_view> pieces) {
    auto sent = connection_.stream.write_all(pieces);
    if (!sent.ok()) broken_ = true;
    return sent;
  }

  /// The bytes never enter this process. The socket is in blocking mode, so the kernel waits for a slow reader.
  Status send_file(int file, std::uint64_t offset, std::uint64_t size_bytes) {
    constexpr std::uint64_t most_at_once = 1U << 30U;
    TRY(linux::lseek(file, static_cast<std::int64_t>(offset), SEEK_SET), "send a file");
    while (size_bytes > 0) {
      const auto count = TRY_PLAIN(linux::sendfile(connection_.stream.fd(), file, static_cast<std::size_t>(std::min(size_bytes, most_at_once))));
      if (count == 0) return Error(ErrorKind::corrupt, "send a file: it is shorter than announced");
      size_bytes -= count;
    }
    return {};
  }

  Connection& connection_;
  MessageParser& parser_;
  std::string body_;  ///< decoded, not yet given to the handler
  const ServerOptions& options_;
  const Detach& detach_;
  const DetachThrough& detach_through_;
  std::string path_;
  std::string query_;
  std::atomic<Phase> phase_ = Phase::fresh;  ///< atomic, with broken_: one thread may read the body while another writes the answer
  bool chunked_ = false;
  bool close_after_ = false;
  std::atomic<bool> broken_ = false;
  bool expects_continue_ = false;
  mutable UniqueFd hangup_;  ///< made by the first cancel()
};

/// Reads until the head is complete. The refusal to send, if any, is put into `reply`.
Status read_head(Connection& connection, MessageParser& parser, std::string& first_body, const ServerOptions& options, std::string& reply) {
  const std::int64_t deadline = deadline_after(options.header_timeout_ms);
  for (;;) {
    // RFC 9112, 2.2: empty lines in front of a request are to be ignored.
    if (!parser.head_done() && connection.buffer.starts_with("\r\n") && connection.buffer.size() > 2) connection.buffer.erase(0, 2);
    if (!connection.buffer.empty()) {
      auto taken = parser.take(connection.buffer, first_body);
      if (!taken.ok()) {
        reply = refusal(parser.failure_status(), taken.error().text());
        return std::move(taken).error();
      }
      connection.buffer.erase(0, *taken);
      if (parser.head_done()) return {};
    }
    auto got = connection.stream.read_some(connection.buffer, head_read_bytes, deadline);
    if (!got.ok()) {
      if (got.error().kind() == ErrorKind::timeout) reply = refusal(408, "the request's head did not arrive in time");
      return std::move(got).error();
    }
    if (*got == 0) return Error(ErrorKind::io, "client closed the connection");
  }
}

}  // namespace

std::string refusal(int status, std::string_view message) {
  std::string body = "{\"message\":";
  append_json_string(body, message);
  body += "}\n";
  std::string text = concat("HTTP/1.1 ", status, " ", reason_phrase(status), "\r\n");
  append_header(text, "Content-Type", "application/json");
  append_header(text, "Date", http_date());
  append_header(text, "Content-Length", concat(body.size()));
  append_header(text, "Connection", "close");
  return text + "\r\n" + body;
}

Outcome serve_one(Connection& connection, const Handler& handler, const ServerOptions& options, const Detach& detach,
                  const DetachThrough& detach_through) {
  connection.streaming = false;
  auto parser = create_request_parser(options.max_header_bytes);
  std::string first_body;
  std::string reply;
  if (!read_head(connection, *parser, first_body, options, reply).ok()) {
    if (reply.empty()) return Outcome::close;
    connection.stream.write_or_drop(reply);
    return Outcome::linger;
  }
  ConnectionExchange exchange(connection, *parser, std::move(first_body), options, detach, detach_through);
  try {
    handler(exchange);
  } catch (const std::exception& failure) {  // ours throw nothing; a third party's bad_alloc may pass through
    if (!exchange.answered()) ignore(exchange.respond_error(500, failure.what()));  // settle() sees a dead client
  }
  return exchange.settle();
}

}  // namespace caisson::wire
