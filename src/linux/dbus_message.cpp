// Marshalling: every value is aligned to its own size from the message's start, lengths go before what they measure.
#include "linux/dbus_message.hpp"

#include <cerrno>

#include "base/strings.hpp"

namespace caisson::linux {

DbusValue DbusValue::variant(DbusValue inside) {
  DbusValue out;
  out.signature = "v";
  out.items.push_back(std::move(inside));
  return out;
}

DbusValue DbusValue::structure(std::vector<DbusValue> fields) {
  DbusValue out;
  out.signature = "(";
  for (const DbusValue& field : fields) out.signature += field.signature;
  out.signature += ')';
  out.items = std::move(fields);
  return out;
}

DbusValue DbusValue::array(std::string_view element, std::vector<DbusValue> items) {
  DbusValue out;
  out.signature = concat('a', element);
  out.items = std::move(items);
  return out;
}

DbusValue DbusValue::bytes(std::string_view bytes) {
  DbusValue out;
  out.signature = "ay";
  for (const char byte : bytes) out.items.push_back({.signature = "y", .number = static_cast<unsigned char>(byte)});
  return out;
}

namespace {

/// The specification allows 32 arrays and 32 structures; nothing we speak needs more than a handful of either.
constexpr int depth_limit = 32;
constexpr std::size_t signature_limit_bytes = 255;

Error corrupt(std::string_view what) { return {ErrorKind::corrupt, concat("D-Bus message: ", what), EBADMSG}; }
Error unfit(std::string_view what) { return {ErrorKind::invalid, concat("D-Bus value: ", what), EINVAL}; }

std::size_t fixed_size(char type) {
  switch (type) {
    case 'y': return 1;
    case 'n':
    case 'q': return 2;
    case 'b':
    case 'i':
    case 'u':
    case 'h': return 4;
    case 'x':
    case 't':
    case 'd': return 8;
    default: return 0;
  }
}

std::size_t alignment(char type) {
  if (const std::size_t size = fixed_size(type); size != 0) return size;
  switch (type) {
    case 's':
    case 'o':
    case 'a': return 4;
    case '(':
    case '{': return 8;
    default: return 1;  // g, v
  }
}

bool is_text(char type) { return type == 's' || type == 'o' || type == 'g'; }

/// The length of one complete type; `element`: a dictionary entry may stand here.
Result<std::size_t> type_length(std::string_view signature, int depth, bool element) {
  if (signature.empty()) return unfit("a signature ends too early");
  if (depth > depth_limit) return unfit("nested too deeply");
  const char type = signature[0];
  if (fixed_size(type) != 0 || is_text(type) || type == 'v') return std::size_t{1};
  if (type == 'a') {
    const std::size_t inner = TRY_PLAIN(type_length(signature.substr(1), depth + 1, true));
    return inner + 1;
  }
  if (type != '(' && !(type == '{' && element)) return unfit(concat("\"", signature, "\" is not a type"));
  const char end = type == '(' ? ')' : '}';
  std::size_t at = 1;
  std::size_t fields = 0;
  while (at < signature.size() && signature[at] != end) {
    at += TRY_PLAIN(type_length(signature.substr(at), depth + 1, false));
    ++fields;
  }
  if (at >= signature.size()) return unfit("a signature ends too early");
  if (fields == 0 || (type == '{' && fields != 2)) return unfit(concat("\"", signature, "\" has the wrong number of fields"));
  return at + 1;
}

std::string_view inside(std::string_view signature) { return signature.substr(1, signature.size() - 2); }

class Writer {
 public:
  void align(std::size_t to) { out_.resize((out_.size() + to - 1) / to * to, '\0'); }
  void number(std::uint64_t value, std::size_t size) {
    align(size);
    for (std::size_t i = 0; i < size; ++i) out_ += static_cast<char>(value >> (8 * i) & 0xffU);
  }
  void text(char type, std::string_view text) {
    number(text.size(), type == 'g' ? 1 : 4);
    out_ += text;
    out_ += '\0';
  }
  void patch(std::size_t at, std::size_t value) {
    for (std::size_t i = 0; i < 4; ++i) out_[at + i] = static_cast<char>(value >> (8 * i) & 0xffU);
  }
  Status value(const DbusValue& value, int depth);
  [[nodiscard]] std::size_t size() const { return out_.size(); }
  void append(std::string_view bytes) { out_ += bytes; }
  std::string take() { return std::move(out_); }

 private:
  Status fields(const DbusValue& value, int depth);
  std::string out_;
};

Status Writer::fields(const DbusValue& value, int depth) {
  align(8);
  std::string_view rest = inside(value.signature);
  for (const DbusValue& item : value.items) {
    if (!rest.starts_with(item.signature)) return unfit(concat("a field of type ", item.signature, " inside of ", value.signature));
    rest.remove_prefix(item.signature.size());
    TRY_PLAIN(this->value(item, depth + 1));
  }
  if (!rest.empty()) return unfit(concat("too few fields for ", value.signature));
  return {};
}

Status Writer::value(const DbusValue& value, int depth) {
  if (depth > depth_limit) return unfit("nested too deeply");
  if (value.signature.size() > signature_limit_bytes) return unfit("a signature longer than 255 bytes");
  if (TRY_PLAIN(type_length(value.signature, 0, true)) != value.signature.size())
    return unfit(concat("\"", value.signature, "\" is more than one type"));
  const char type = value.signature[0];
  if (const std::size_t size = fixed_size(type); size != 0) {
    number(value.number, size);
    return {};
  }
  if (is_text(type)) {
    if (value.text.find('\0') != std::string::npos) return unfit("text with a NUL inside");
    if (type == 'g' && value.text.size() > signature_limit_bytes) return unfit("a signature longer than 255 bytes");
    text(type, value.text);
    return {};
  }
  if (type == 'v') {
    if (value.items.size() != 1) return unfit("a variant holds exactly one value");
    text('g', value.items[0].signature);
    return this->value(value.items[0], depth + 1);
  }
  if (type != 'a') return fields(value, depth);
  const std::string_view element = std::string_view(value.signature).substr(1);
  number(0, 4);
  const std::size_t length_at = size() - 4;
  align(alignment(element[0]));  // not counted in the length, and there even when no element follows
  const std::size_t begin = size();
  for (const DbusValue& item : value.items) {
    if (item.signature != element) return unfit(concat("an element of type ", item.signature, " inside of ", value.signature));
    TRY_PLAIN(this->value(item, depth + 1));
  }
  patch(length_at, size() - begin);
  return {};
}

class Reader {
 public:
  Reader(std::string_view bytes, bool big_endian) : bytes_(bytes), big_endian_(big_endian) {}
  Status align(std::size_t to) {
    const std::size_t target = (at_ + to - 1) / to * to;
    if (target > bytes_.size()) return corrupt("ends too early");
    for (; at_ < target; ++at_)
      if (bytes_[at_] != '\0') return corrupt("padding that is not zero");
    return {};
  }
  Result<std::uint64_t> number(std::size_t size) {
    TRY_PLAIN(align(size));
    if (bytes_.size() - at_ < size) return corrupt("ends too early");
    std::uint64_t out = 0;
    for (std::size_t i = 0; i < size; ++i) {
      const std::size_t shift = 8 * (big_endian_ ? size - 1 - i : i);
      out |= std::uint64_t{static_cast<unsigned char>(bytes_[at_ + i])} << shift;
    }
    at_ += size;
    return out;
  }
  Result<std::string> text(char type) {
    const auto length = TRY_PLAIN(number(type == 'g' ? 1 : 4));
    if (bytes_.size() - at_ <= length) return corrupt("ends too early");
    const std::string_view out = bytes_.substr(at_, length);
    if (bytes_[at_ + length] != '\0' || out.find('\0') != std::string_view::npos)
      return corrupt("a text without its NUL, or with one inside");
    at_ += length + 1;
    return std::string(out);
  }
  Result<DbusValue> value(std::string_view signature, int depth);
  [[nodiscard]] std::size_t at() const { return at_; }
  [[nodiscard]] bool at_end() const { return at_ == bytes_.size(); }

 private:
  Result<DbusValue> scalar(std::string_view signature);
  Result<DbusValue> array(std::string_view signature, int depth);
  std::string_view bytes_;
  bool big_endian_;
  std::size_t at_ = 0;
};

Result<DbusValue> Reader::scalar(std::string_view signature) {
  DbusValue out;
  out.signature = signature;
  const char type = signature[0];
  out.number = TRY_PLAIN(number(fixed_size(type)));
  if (type == 'b' && out.number > 1) return corrupt("a truth value that is neither");
  if (type == 'n') out.number = static_cast<std::uint64_t>(std::int64_t{static_cast<std::int16_t>(out.number)});
  if (type == 'i') out.number = static_cast<std::uint64_t>(std::int64_t{static_cast<std::int32_t>(out.number)});
  return out;
}

Result<DbusValue> Reader::array(std::string_view signature, int depth) {
  DbusValue out;
  out.signature = signature;
  const std::string_view element = signature.substr(1);
  const auto length = TRY_PLAIN(number(4));
  TRY_PLAIN(align(alignment(element[0])));
  if (bytes_.size() - at_ < length) return corrupt("ends too early");
  const std::size_t end = at_ + length;
  // Every element takes a byte at least, so this ends.
  while (at_ < end) out.items.push_back(TRY_PLAIN(value(element, depth + 1)));
  if (at_ != end) return corrupt("an array whose elements do not fit its length");
  return out;
}

Result<DbusValue> Reader::value(std::string_view signature, int depth) {
  if (depth > depth_limit) return corrupt("nested too deeply");
  const char type = signature[0];
  if (fixed_size(type) != 0) return scalar(signature);
  if (type == 'a') return array(signature, depth);
  DbusValue out;
  out.signature = signature;
  if (is_text(type)) {
    out.text = TRY_PLAIN(text(type));
    return out;
  }
  if (type == 'v') {
    const std::string inner = TRY_PLAIN(text('g'));
    const auto length = type_length(inner, 0, false);
    if (!length || *length != inner.size()) return corrupt("a variant that is not of one type");
    out.items.push_back(TRY_PLAIN(value(inner, depth + 1)));
    return out;
  }
  TRY_PLAIN(align(8));
  std::string_view rest = inside(signature);
  while (!rest.empty()) {
    const std::size_t length = TRY_PLAIN(type_length(rest, depth + 1, false));
    out.items.push_back(TRY_PLAIN(value(rest.substr(0, length), depth + 1)));
    rest.remove_prefix(length);
  }
  return out;
}

struct TextField {
  std::uint64_t code;
  char type;
  std::string DbusMessage::*member;
};
constexpr TextField text_fields[] = {
    {1, 'o', &DbusMessage::path},       {2, 's', &DbusMessage::interface},   {3, 's', &DbusMessage::member},
    {4, 's', &DbusMessage::error_name}, {6, 's', &DbusMessage::destination}, {7, 's', &DbusMessage::sender},
};
constexpr std::uint64_t reply_serial_field = 5;
constexpr std::uint64_t signature_field = 8;

DbusValue field(std::uint64_t code, DbusValue value) {
  std::vector<DbusValue> pair;
  pair.push_back({.signature = "y", .number = code});
  pair.push_back(DbusValue::variant(std::move(value)));
  return DbusValue::structure(std::move(pair));
}

Status take_field(const DbusValue& pair, DbusMessage& out, std::string& signature) {
  const std::uint64_t code = pair.items[0].number;
  const DbusValue& value = pair.items[1].items[0];
  for (const TextField& known : text_fields) {
    if (known.code != code) continue;
    if (value.signature != std::string_view(&known.type, 1)) return corrupt("a header field of the wrong type");
    out.*known.member = value.text;
  }
  if (code == reply_serial_field) {
    if (value.signature != "u") return corrupt("a header field of the wrong type");
    out.reply_serial = static_cast<std::uint32_t>(value.number);
  }
  if (code == signature_field) {
    if (value.signature != "g") return corrupt("a header field of the wrong type");
    signature = value.text;
  }
  return {};  // unknown fields are to be ignored
}

}  // namespace

Result<std::size_t> dbus_type_length(std::string_view signature) { return type_length(signature, 0, false); }

Result<std::string> encode_dbus_message(const DbusMessage& message) {
  Writer body;
  std::string signature;
  for (const DbusValue& value : message.body) {
    TRY_PLAIN(body.value(value, 0));
    signature += value.signature;
  }
  if (signature.size() > signature_limit_bytes) return unfit("a signature longer than 255 bytes");
  std::vector<DbusValue> fields;
  for (const TextField& known : text_fields)
    if (const std::string& text = message.*known.member; !text.empty())
      fields.push_back(field(known.code, {.signature = std::string(1, known.type), .text = text}));
  if (message.reply_serial != 0) fields.push_back(field(reply_serial_field, DbusValue::uint32(message.reply_serial)));
  if (!signature.empty()) fields.push_back(field(signature_field, {.signature = "g", .text = signature}));
  const std::string body_bytes = body.take();
  Writer out;
  out.number('l', 1);
  out.number(static_cast<std::uint8_t>(message.type), 1);
  out.number(message.flags, 1);
  out.number(1, 1);  // the protocol's version
  out.number(body_bytes.size(), 4);
  out.number(message.serial, 4);
  TRY_PLAIN(out.value(DbusValue::array("(yv)", std::move(fields)), 0));
  out.align(8);
  out.append(body_bytes);
  return out.take();
}

Result<std::size_t> dbus_message_size(std::string_view head) {
  if (head.size() < dbus_head_bytes) return corrupt("ends too early");
  if (head[0] != 'l' && head[0] != 'B') return corrupt("unknown byte order");
  Reader reader(head.substr(0, dbus_head_bytes), head[0] == 'B');
  ignore(reader.number(4));  // order, type, flags, version: looked at when the whole is there
  const auto body = TRY_PLAIN(reader.number(4));
  ignore(reader.number(4));
  const auto fields = TRY_PLAIN(reader.number(4));
  const std::uint64_t size = dbus_head_bytes + (fields + 7) / 8 * 8 + body;
  if (size > dbus_message_limit_bytes) return corrupt(concat("of ", size, " bytes is longer than ", dbus_message_limit_bytes));
  return static_cast<std::size_t>(size);
}

Result<DbusMessage> decode_dbus_message(std::string_view bytes) {
  if (TRY_PLAIN(dbus_message_size(bytes)) != bytes.size()) return corrupt("of another length than it says");
  Reader reader(bytes, bytes[0] == 'B');
  ignore(reader.number(1));
  DbusMessage out;
  const auto type = TRY_PLAIN(reader.number(1));
  if (type < 1 || type > 4) return corrupt("of an unknown type");
  out.type = static_cast<DbusMessageType>(type);
  out.flags = static_cast<std::uint8_t>(TRY_PLAIN(reader.number(1)));
  if (TRY_PLAIN(reader.number(1)) != 1) return corrupt("of another protocol version");
  ignore(reader.number(4));
  out.serial = static_cast<std::uint32_t>(TRY_PLAIN(reader.number(4)));
  std::string signature;
  const DbusValue fields = TRY_PLAIN(reader.value("a(yv)", 0));
  for (const DbusValue& pair : fields.items) TRY_PLAIN(take_field(pair, out, signature));
  TRY_PLAIN(reader.align(8));
  // The body is aligned to its own start, which is a multiple of 8: the whole message's alignment is the same.
  for (std::string_view rest = signature; !rest.empty();) {
    const auto length = type_length(rest, 0, false);
    if (!length) return corrupt("its signature is none");
    out.body.push_back(TRY_PLAIN(reader.value(rest.substr(0, *length), 0)));
    rest.remove_prefix(*length);
  }
  if (!reader.at_end()) return corrupt("bytes behind its end");
  return out;
}

}  // namespace caisson::linux
