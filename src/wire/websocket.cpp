// Handshake and frames.
#include "wire/websocket.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <array>

#include "base/strings.hpp"

namespace caisson::wire {

namespace {

constexpr std::size_t longest_control = 125;  // RFC 6455, 5.5

/// Section 4.2.2, 5.4: SHA-1 here is no secret, only a sign that the server has understood.
std::string accept_of(std::string_view key) {
  const std::string text = concat(key, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
  std::array<unsigned char, EVP_MAX_MD_SIZE> hash{};
  unsigned int size = 0;
  if (EVP_Digest(text.data(), text.size(), hash.data(), &size, EVP_sha1(), nullptr) != 1) return "";
  return base64_encode({reinterpret_cast<const char*>(hash.data()), size});
}

bool has_token(std::string_view list, std::string_view token) {
  const auto words = split(list, ',');
  return std::any_of(words.begin(), words.end(), [&](std::string_view word) { return lower(trim(word)) == token; });
}

bool is_control(WebSocketCode code) { return static_cast<unsigned>(code) >= 8; }

}  // namespace

Result<std::string> websocket_head(const Exchange& exchange, const Headers& headers) {
  auto refuse = [](std::string_view why) { return Error(ErrorKind::invalid, concat("websocket: ", why)); };
  if (!has_token(exchange.header("Upgrade"), "websocket") || !has_token(exchange.header("Connection"), "upgrade"))
    return refuse("the request does not ask for an upgrade to a websocket");
  if (exchange.header("Sec-WebSocket-Version") != "13") return refuse("Sec-WebSocket-Version must be 13");
  const std::string_view key = exchange.header("Sec-WebSocket-Key");
  auto nonce = base64_decode(key);
  if (!nonce.ok() || nonce->size() != 16) return refuse("Sec-WebSocket-Key must be 16 bytes in base64");
  std::string head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
  head += concat("Sec-WebSocket-Accept: ", accept_of(key), "\r\n");
  for (const auto& [name, value] : headers) head += concat(name, ": ", value, "\r\n");
  return head + "\r\n";
}

void append_websocket_frame(std::string& out, WebSocketCode code, std::string_view payload) {
  constexpr unsigned char final_bit = 0x80;
  out += static_cast<char>(final_bit | static_cast<unsigned char>(code));
  const std::uint64_t size = payload.size();
  int length_bytes = 0;
  if (size < 126) {
    out += static_cast<char>(size);
  } else if (size < 65536) {
    out += static_cast<char>(126);
    length_bytes = 2;
  } else {
    out += static_cast<char>(127);
    length_bytes = 8;
  }
  for (int i = length_bytes - 1; i >= 0; --i) out += static_cast<char>((size >> (8 * i)) & 0xff);
  out += payload;
}

Status WebSocketReader::read_header() {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(header_[i]); };
  const bool is_last = (at(0) & 0x80) != 0;
  if ((at(0) & 0x70) != 0) return Error(ErrorKind::invalid, "websocket: a reserved bit is set");
  code_ = static_cast<WebSocketCode>(at(0) & 0x0f);
  const std::size_t length_bytes = (at(1) & 0x7f) == 126 ? 2 : (at(1) & 0x7f) == 127 ? 8 : 0;
  left_ = length_bytes == 0 ? at(1) & 0x7f : 0;
  for (std::size_t i = 0; i < length_bytes; ++i) left_ = left_ << 8 | at(2 + i);
  for (std::size_t i = 0; i < 4; ++i) mask_[i] = at(2 + length_bytes + i);
  offset_ = 0;
  if (is_control(code_)) {
    if (!is_last || left_ > longest_control) return Error(ErrorKind::invalid, "websocket: a control frame is in parts or too long");
    if (code_ > WebSocketCode::pong) return Error(ErrorKind::invalid, "websocket: unknown kind of control frame");
    control_.clear();
  } else {
    if (code_ > WebSocketCode::binary) return Error(ErrorKind::invalid, "websocket: unknown kind of frame");
    if ((code_ == WebSocketCode::continuation) != in_message_) return Error(ErrorKind::invalid, "websocket: frames of two messages are mixed");
    in_message_ = !is_last;
  }
  in_payload_ = true;
  header_.clear();
  return {};
}

void WebSocketReader::end_control(std::string& replies) {
  if (code_ == WebSocketCode::ping) append_websocket_frame(replies, WebSocketCode::pong, control_);
  if (code_ != WebSocketCode::close) return;
  append_websocket_frame(replies, WebSocketCode::close, std::string_view(control_).substr(0, 2));  // the code is given back (5.5.1)
  closed_ = true;
}

Status WebSocketReader::take(std::string_view bytes, std::string& data, std::string& replies) {
  while (!closed_ && (!bytes.empty() || (in_payload_ && left_ == 0))) {
    if (!in_payload_) {
      header_ += bytes.front();
      bytes.remove_prefix(1);
      if (header_.size() < 2) continue;
      const auto second = static_cast<unsigned char>(header_[1]);
      if ((second & 0x80) == 0) return Error(ErrorKind::invalid, "websocket: a client's frame must be masked");
      const std::size_t length_bytes = (second & 0x7f) == 126 ? 2 : (second & 0x7f) == 127 ? 8 : 0;
      if (header_.size() == 2 + length_bytes + 4) TRY_PLAIN(read_header());
      continue;
    }
    std::string& into = is_control(code_) ? control_ : data;
    const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(left_, bytes.size()));
    for (std::size_t i = 0; i < count; ++i) into += static_cast<char>(static_cast<unsigned char>(bytes[i]) ^ mask_[(offset_ + i) % 4]);
    offset_ += count;
    left_ -= count;
    bytes.remove_prefix(count);
    if (left_ > 0) continue;
    in_payload_ = false;
    if (is_control(code_)) end_control(replies);
  }
  return {};
}

namespace {

class WebSocketCodec final : public Codec {
 public:
  explicit WebSocketCodec(WebSocketCode code) : code_(code) {}

  Status receive(std::string_view bytes, std::string& plain, std::string& reply) override {
    auto taken = reader_.take(bytes, plain, reply);
    if (!taken.ok()) say_close(reply, "\x03\xea");  // 1002: protocol error (7.4.1)
    return taken;
  }
  Status send(std::string_view plain, std::string& out) override {
    append_websocket_frame(out, code_, plain);
    return {};
  }
  void finish(std::string& out) override { say_close(out, "\x03\xe8"); }  // 1000: normal closure
  [[nodiscard]] bool is_ended() const override { return reader_.is_closed(); }
  [[nodiscard]] bool half_closes() const override { return false; }

 private:
  void say_close(std::string& out, std::string_view reason) {
    if (!std::exchange(said_close_, true) && !reader_.is_closed()) append_websocket_frame(out, WebSocketCode::close, reason);
  }

  WebSocketCode code_;
  WebSocketReader reader_;
  bool said_close_ = false;
};

}  // namespace

std::unique_ptr<Codec> create_websocket_codec(WebSocketCode code) { return std::make_unique<WebSocketCodec>(code); }

}  // namespace caisson::wire
