// The blocking client.
#include "wire/http_client.hpp"

#include <array>

#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/socket.hpp"
#include "linux/stream_socket.hpp"
#include "wire/http_parser.hpp"
#include "wire/stream.hpp"

namespace caisson::wire {

namespace {

constexpr std::size_t max_header_bytes = 256 << 10;
constexpr std::size_t read_bytes = 64 << 10;
constexpr int least_handshake_ms = 5000;

class SocketClient final : public Client {
 public:
  /// `pump`: carries the bytes of `socket` through TLS, as long as this client or a socket that was released from it is used; or null.
  SocketClient(UniqueFd socket, std::string host, std::shared_ptr<Pump> pump) : pump_(std::move(pump)), stream_(std::move(socket)), host_(std::move(host)) {}

  Status begin(std::string_view method, std::string_view target, const Headers& headers, std::string_view body) override {
    std::string head = TRY_PLAIN(begin_request(method, target, headers));
    // A POST without a body still needs its length (RFC 9110, 8.6).
    if (!body.empty() || method == "POST" || method == "PUT") head += concat("Content-Length: ", body.size(), "\r\n");
    head += "\r\n";
    asked_with_head_ = method == "HEAD";
    sent_ = stream_.write_all({head, body});
    return {};  // a refusal that the daemon sent before it closed is worth more than a failed write: finish() tells
  }

  Result<ClientResponse> finish() override { return read_answer(std::exchange(sent_, Status())); }

  Result<ClientResponse> send_stream(std::string_view method, std::string_view target, const Headers& headers, int source_fd) override {
    std::string head = TRY_PLAIN(begin_request(method, target, headers));
    head += "Transfer-Encoding: chunked\r\n\r\n";
    auto sent = stream_.write_all({head});
    std::string piece;
    while (sent.ok()) {
      piece.resize(read_bytes);
      auto got = linux::read(source_fd, piece);
      if (!got.ok()) {
        usable_ = false;  // the daemon sees a cut-off body, and takes none of it
        ignore(linux::shutdown(stream_.fd(), SHUT_RDWR));
        return std::move(got).error().in("read the input");
      }
      if (*got == 0) break;
      const std::string size = chunk_head(*got);
      sent = stream_.write_all({size, std::string_view(piece).substr(0, *got), "\r\n"});
    }
    if (sent.ok()) sent = stream_.write_all({"0\r\n\r\n"});
    asked_with_head_ = method == "HEAD";
    return read_answer(std::move(sent));
  }

  Result<std::string> read_some() override {
    std::string body = std::exchange(early_body_, {});
    while (body.empty() && parser_ && !parser_->done()) {
      if (buffer_.empty() || stalled_) {
        if (TRY(stream_.read_some(buffer_, read_bytes, no_deadline), "read the answer") == 0) {
          TRY(parser_->finish(), "read the answer");
          usable_ = false;
          break;
        }
      }
      TRY_PLAIN(parse_buffered(body));
    }
    return body;
  }

  Result<std::string> read_all(std::size_t limit_bytes) override {
    std::string all;
    for (;;) {
      std::string piece = TRY_PLAIN(read_some());
      if (piece.empty()) return all;
      if (all.size() + piece.size() > limit_bytes) {
        usable_ = false;
        return Error(ErrorKind::invalid, concat("the answer is longer than ", limit_bytes, " bytes"));
      }
      all += piece;
    }
  }

  Hijacked release() override {
    usable_ = false;
    Hijacked taken;
    taken.pending = early_body_ + buffer_;
    taken.socket = stream_.release();
    taken.pump = pump_;
    return taken;
  }

  [[nodiscard]] int fd() const override { return stream_.fd(); }

 private:
  static std::string chunk_head(std::size_t size) {
    std::array<char, 18> digits{};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), size, 16).ptr;
    return std::string(digits.data(), end) + "\r\n";
  }

  Result<std::string> begin_request(std::string_view method, std::string_view target, const Headers& headers) {
    if (parser_ && usable_) {
      // What the caller left unread of the last answer stands in front of the next one.
      while (!parser_->done() || !early_body_.empty()) {
        if (TRY_PLAIN(read_some()).empty()) break;
      }
    }
    if (!usable_) return Error(ErrorKind::io, "the connection to the daemon is closed");
    if (target.find_first_of(" \r\n") != std::string_view::npos) return Error(ErrorKind::invalid, concat("request target \"", target, "\" has a blank"));
    std::string head = concat(method, " ", target, " HTTP/1.1\r\n");
    if (find_header(headers, "Host").empty()) head += concat("Host: ", host_, "\r\n");
    for (const auto& [name, value] : headers) {
      if (value.find_first_of("\r\n") != std::string::npos) return Error(ErrorKind::invalid, concat("header ", name, " has a line break"));
      head += concat(name, ": ", value, "\r\n");
    }
    return head;
  }

  /// `sent` may have failed because the daemon answered early (an error, mostly) and closed; its answer is worth more.
  Result<ClientResponse> read_answer(Status sent) {
    for (;;) {
      parser_ = create_response_parser(max_header_bytes, asked_with_head_);
      early_body_.clear();
      stalled_ = false;
      auto head = read_head();
      if (!head.ok()) {
        usable_ = false;
        return sent.ok() ? std::move(head).error() : std::move(sent).error();
      }
      if (parser_->head().status / 100 == 1 && parser_->head().status != 101) continue;  // 100 Continue announces the real one
      break;
    }
    if (!sent.ok() || !parser_->head().keep_alive) usable_ = false;
    ClientResponse answer;
    answer.status = parser_->head().status;
    answer.headers = parser_->head().headers;
    return answer;
  }

  Status read_head() {
    for (;;) {
      if (!buffer_.empty()) TRY_PLAIN(parse_buffered(early_body_));
      if (parser_->head_done()) return {};
      if (TRY(stream_.read_some(buffer_, read_bytes, no_deadline), "read the answer") == 0)
        return Error(ErrorKind::io, "the daemon closed the connection without an answer");
    }
  }

  Status parse_buffered(std::string& body) {
    auto taken = parser_->take(buffer_, body);
    if (!taken.ok()) {
      usable_ = false;
      return Error(ErrorKind::corrupt, concat("the daemon's answer: ", taken.error().text()));
    }
    stalled_ = *taken == 0;  // the parser wants more in front of it before it goes on
    buffer_.erase(0, *taken);
    return {};
  }

  std::shared_ptr<Pump> pump_;  // shared with whoever took the socket
  Stream stream_;
  std::string host_;
  std::unique_ptr<MessageParser> parser_;
  std::string buffer_;      ///< received, not parsed
  std::string early_body_;  ///< parsed, not given out
  bool stalled_ = false;
  bool usable_ = true;
  bool asked_with_head_ = false;  ///< the answer to HEAD has no body, whatever its head says
  Status sent_;                   ///< of begin()'s write
};

}  // namespace

Result<std::vector<std::string>> addresses_of(std::string_view host) {
  if (linux::parse_ip_endpoint(concat("[", host, "]:0")).ok()) return std::vector<std::string>{std::string(host)};
  std::vector<std::string> found;
  const std::string hosts = replace_all(linux::read_file("/etc/hosts").value_or(""), "\t", " ");  // owns what the views below see
  for (auto line : split(hosts, '\n')) {
    line = line.substr(0, line.find('#'));
    std::string address;
    for (auto word : split(line, ' ')) {
      if (word.empty()) continue;
      if (address.empty())
        address = word;
      else if (word == host)
        found.push_back(address);
    }
  }
  if (found.empty() && host == "localhost") found = {"127.0.0.1", "::1"};
  if (found.empty())
    return Error(ErrorKind::not_found, concat("unknown host \"", host, "\"")).with_hint("give its IP address, or add it to /etc/hosts");
  return found;
}

namespace {

Result<std::unique_ptr<Client>> connect_tcp(std::string_view authority, int timeout_ms, const TlsContext* tls) {
  auto halves = split_last(authority.substr(0, authority.find('/')), ':');
  if (!halves.found) return Error(ErrorKind::invalid, concat("\"", authority, "\" has no port (want HOST:PORT)"));
  std::string_view host = halves.before;
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  auto addresses = TRY_PLAIN(addresses_of(host));
  Status last;
  for (const auto& address : addresses) {
    auto endpoint = TRY_PLAIN(linux::parse_ip_endpoint(concat("[", address, "]:", halves.after)));
    auto socket = linux::connect_tcp_socket(endpoint, timeout_ms);
    if (!socket.ok()) {
      last = std::move(socket).error();
      continue;
    }
    if (tls == nullptr) return std::unique_ptr<Client>(std::make_unique<SocketClient>(std::move(*socket), std::string(authority), nullptr));
    auto codec = TRY_PLAIN(tls->connect(socket->get(), std::string(host), std::max(timeout_ms, least_handshake_ms)));
    auto pump = TRY_PLAIN(Pump::create());
    UniqueFd plain = TRY_PLAIN(pump->add(std::move(*socket), std::move(codec), ""));
    return std::unique_ptr<Client>(std::make_unique<SocketClient>(std::move(plain), std::string(authority), std::move(pump)));
  }
  return std::move(last).error();
}

}  // namespace

std::string_view ClientResponse::header(std::string_view name) const { return find_header(headers, name); }

std::unique_ptr<Client> client_over(UniqueFd socket, std::string host) { return std::make_unique<SocketClient>(std::move(socket), std::move(host), nullptr); }

Result<std::unique_ptr<Client>> connect(const std::string& endpoint, int timeout_ms, const TlsContext* tls) {
  auto halves = split_once(endpoint, ':');
  std::string_view rest = halves.after;
  if (!halves.found || !rest.starts_with("//"))
    return Error(ErrorKind::invalid, concat("endpoint \"", endpoint, "\": want unix://PATH or tcp://HOST:PORT"));
  rest.remove_prefix(2);
  if (halves.before == "unix") {
    UniqueFd socket = TRY_PLAIN(linux::connect_unix_socket(std::string(rest), timeout_ms));
    return std::unique_ptr<Client>(std::make_unique<SocketClient>(std::move(socket), "localhost", nullptr));
  }
  if (halves.before == "https" && tls == nullptr) return Error(ErrorKind::invalid, concat("endpoint \"", endpoint, "\": needs --tls or --tlsverify"));
  if (halves.before == "tcp" || halves.before == "http" || halves.before == "https") return connect_tcp(rest, timeout_ms, tls);
  return Error(ErrorKind::invalid, concat("endpoint \"", endpoint, "\": \"", halves.before, "\" is not supported (want unix:// or tcp://)"));
}

}  // namespace caisson::wire
