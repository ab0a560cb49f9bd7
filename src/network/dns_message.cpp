// Reading and writing DNS messages. Every read is bounded by the message; a compressed name only ever leads backwards, so it ends.
#include "network/dns_message.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/strings.hpp"

namespace caisson::network {
namespace {

constexpr std::uint16_t flag_response = 0x8000;
constexpr std::uint16_t flag_truncated = 0x0200;
constexpr std::uint16_t flag_recursion_desired = 0x0100;
constexpr std::uint16_t flag_recursion_available = 0x0080;
constexpr std::uint16_t operation_mask = 0x7800;
constexpr std::uint16_t code_mask = 0x000f;
constexpr std::uint16_t class_in = 1;
constexpr std::size_t label_limit = 63;
constexpr std::size_t name_limit = 255;  // RFC 1035 2.3.4, with all length bytes
constexpr std::uint16_t pointer_to_question = 0xc000 | dns_header_size;
constexpr std::uint16_t our_udp_size = 1232;  // fits into the smallest IPv6 packet (DNS flag day 2020)
constexpr std::size_t opt_record_size = 11;

std::uint8_t octet_at(std::string_view message, std::size_t at) { return static_cast<std::uint8_t>(message[at]); }
std::uint16_t number_at(std::string_view message, std::size_t at) {
  return static_cast<std::uint16_t>(octet_at(message, at) << 8 | octet_at(message, at + 1));
}

void append16(std::string& out, std::uint16_t value) {
  out += static_cast<char>(value >> 8);
  out += static_cast<char>(value & 0xff);
}
void append32(std::string& out, std::uint32_t value) {
  append16(out, static_cast<std::uint16_t>(value >> 16));
  append16(out, static_cast<std::uint16_t>(value));
}

Error broken(std::string_view what) { return Error(ErrorKind::invalid, concat("DNS message: ", what)); }

void append_label(std::string& name, std::string_view label) {
  if (!name.empty()) name += '.';
  for (char c : label) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 'A' && byte <= 'Z') name += static_cast<char>(byte - 'A' + 'a');
    else if (byte > ' ' && byte < 0x7f && byte != '.' && byte != '\\') name += c;
    else name += concat('\\', byte / 100, byte / 10 % 10, byte % 10);
  }
}

struct Name {
  std::string text;
  std::size_t end = 0;  ///< behind its bytes at the place where it began
  bool is_compressed = false;
};

/// A pointer must lead to a place before everything read of this name so far, so no chain of them is endless.
Result<Name> read_name(std::string_view message, std::size_t at) {
  Name name;
  std::size_t length = 1;
  std::size_t lowest = at;
  while (true) {
    if (at >= message.size()) return broken("a name goes beyond the end");
    const std::uint8_t size = octet_at(message, at);
    if (size >= 0xc0) {
      if (at + 1 >= message.size()) return broken("a name goes beyond the end");
      if (!name.is_compressed) name.end = at + 2;
      name.is_compressed = true;
      at = number_at(message, at) & 0x3fffU;
      if (at >= lowest || at < dns_header_size) return broken("a compressed name does not lead backwards");
      lowest = at;
      continue;
    }
    if (size > label_limit) return broken("a label of unknown kind");
    if (size == 0) {
      if (!name.is_compressed) name.end = at + 1;
      return name;
    }
    length += size + 1U;
    if (length > name_limit) return broken("a name longer than 255 bytes");
    if (at + 1 + size > message.size()) return broken("a name goes beyond the end");
    append_label(name.text, message.substr(at + 1, size));
    at += 1U + size;
  }
}

struct Record {
  std::uint16_t type = 0;
  std::uint16_t rclass = 0;
  std::size_t end = 0;
};
Result<Record> read_record(std::string_view message, std::size_t at) {
  constexpr std::size_t fixed_size = 10;  // type, class, TTL, length
  const Name name = TRY_PLAIN(read_name(message, at));
  if (name.end + fixed_size > message.size()) return broken("a record goes beyond the end");
  Record record;
  record.type = number_at(message, name.end);
  record.rclass = number_at(message, name.end + 2);
  record.end = name.end + fixed_size + number_at(message, name.end + 8);
  if (record.end > message.size()) return broken("a record goes beyond the end");
  return record;
}

/// Header and question; `end` is where the records begin.
Result<DnsQuery> read_question(std::string_view message, std::size_t& end) {
  if (message.size() < dns_header_size) return broken("shorter than its header");
  DnsQuery query;
  query.id = number_at(message, 0);
  query.flags = number_at(message, 2);
  if (number_at(message, 4) != 1) return broken("not exactly one question");
  Name name = TRY_PLAIN(read_name(message, dns_header_size));
  if (name.is_compressed) return broken("a compressed question");
  end = name.end + 4;
  if (end > message.size()) return broken("the question goes beyond the end");
  query.name = std::move(name.text);
  query.type = number_at(message, name.end);
  query.qclass = number_at(message, name.end + 2);
  query.question = message.substr(dns_header_size, end - dns_header_size);
  return query;
}

/// Walks all records of the three sections from `at` on; the size an OPT record among them names.
Result<std::optional<std::uint16_t>> walk_records(std::string_view message, std::size_t at) {
  std::optional<std::uint16_t> edns_size;
  const int count = number_at(message, 6) + number_at(message, 8) + number_at(message, 10);
  for (int i = 0; i < count; ++i) {
    const Record record = TRY_PLAIN(read_record(message, at));
    if (record.type == static_cast<std::uint16_t>(DnsType::opt)) edns_size = record.rclass;
    at = record.end;
  }
  return edns_size;
}

std::string begin_answer(const DnsQuery& query, DnsCode code) {
  std::string out;
  append16(out, query.id);
  append16(out, static_cast<std::uint16_t>(flag_response | (query.flags & flag_recursion_desired) | flag_recursion_available |
                                           static_cast<std::uint16_t>(code)));
  append16(out, 1);
  out.append(6, '\0');  // no records yet
  out += query.question;
  return out;
}

void set_number(std::string& message, std::size_t at, std::uint16_t value) {
  message[at] = static_cast<char>(value >> 8);
  message[at + 1] = static_cast<char>(value & 0xff);
}

void mark_truncated(std::string& message) { set_number(message, 2, static_cast<std::uint16_t>(number_at(message, 2) | flag_truncated)); }

/// A client that speaks EDNS is answered in EDNS (RFC 6891 6.1.1).
void end_answer(std::string& out, const DnsQuery& query, std::uint16_t answers) {
  set_number(out, 6, answers);
  if (!query.edns_size) return;
  set_number(out, 10, 1);
  out += '\0';
  append16(out, static_cast<std::uint16_t>(DnsType::opt));
  append16(out, our_udp_size);
  append32(out, 0);
  append16(out, 0);
}

void append_record(std::string& out, DnsType type, std::string_view data) {
  append16(out, pointer_to_question);
  append16(out, static_cast<std::uint16_t>(type));
  append16(out, class_in);
  append32(out, dns_ttl_s);
  append16(out, static_cast<std::uint16_t>(data.size()));
  out += data;
}

/// "web.backend" as labels. None when a label is empty or too long.
std::optional<std::string> encode_name(std::string_view name) {
  std::string out;
  for (auto label : split(name, '.')) {
    if (label.empty() || label.size() > label_limit) return std::nullopt;
    out += static_cast<char>(label.size());
    out += label;
  }
  out += '\0';
  if (out.size() > name_limit) return std::nullopt;
  return out;
}

bool same_question(std::string_view one, std::string_view other) {
  return one.size() == other.size() && lower(one) == lower(other);  // length bytes are below 'A': lower() leaves them
}

}  // namespace

bool is_dns_query(std::string_view message) { return message.size() >= dns_header_size && (number_at(message, 2) & flag_response) == 0; }

Result<DnsQuery> parse_dns_query(std::string_view message) {
  if (!is_dns_query(message)) return broken("no query");
  if ((number_at(message, 2) & operation_mask) != 0) return Error(ErrorKind::unsupported, "DNS message: an operation that is no query");
  std::size_t end = 0;
  DnsQuery query = TRY_PLAIN(read_question(message, end));
  query.edns_size = TRY_PLAIN(walk_records(message, end));
  return query;
}

Result<DnsResponse> check_dns_response(std::string_view message, const DnsQuery& query, std::uint16_t id) {
  if (message.size() < dns_header_size) return broken("shorter than its header");
  if (number_at(message, 0) != id) return broken("another id");
  const std::uint16_t flags = number_at(message, 2);
  if ((flags & flag_response) == 0) return broken("no response");
  DnsResponse response;
  response.code = static_cast<DnsCode>(flags & code_mask);
  response.is_truncated = (flags & flag_truncated) != 0;
  // A server that could not read the question need not repeat it (RFC 1035 4.1.1); its failure is an answer all the same.
  if (number_at(message, 4) == 0 && response.code != DnsCode::no_error && message.size() == dns_header_size) return response;
  std::size_t end = 0;
  const DnsQuery echoed = TRY_PLAIN(read_question(message, end));
  if (!same_question(echoed.question, query.question)) return broken("another question");
  if (!response.is_truncated) TRY_PLAIN(walk_records(message, end));  // servers cut in the middle of a record, too
  return response;
}

void set_dns_id(std::string& message, std::uint16_t id) { set_number(message, 0, id); }

std::string dns_address_answer(const DnsQuery& query, const NameAddresses& addresses, std::size_t limit) {
  const bool wants_any = query.type == static_cast<std::uint16_t>(DnsType::any);
  std::string out = begin_answer(query, DnsCode::no_error);
  std::uint16_t count = 0;
  bool is_cut = false;
  auto add = [&](DnsType type, std::string_view data) {
    constexpr std::size_t record_header_size = 12;
    const std::size_t needed = out.size() + record_header_size + data.size() + (query.edns_size ? opt_record_size : 0);
    if (needed > limit) is_cut = true;
    if (is_cut) return;
    append_record(out, type, data);
    ++count;
  };
  if (wants_any || query.type == static_cast<std::uint16_t>(DnsType::a))
    for (auto address : addresses.ipv4) {
      std::string data;
      append32(data, address.value);
      add(DnsType::a, data);
    }
  if (wants_any || query.type == static_cast<std::uint16_t>(DnsType::aaaa))
    for (const auto& address : addresses.ipv6) add(DnsType::aaaa, {reinterpret_cast<const char*>(address.data()), address.size()});
  if (is_cut) mark_truncated(out);
  end_answer(out, query, count);
  return out;
}

std::optional<std::string> dns_name_answer(const DnsQuery& query, std::string_view name) {
  auto encoded = encode_name(name);
  if (!encoded) return std::nullopt;
  std::string out = begin_answer(query, DnsCode::no_error);
  append_record(out, DnsType::ptr, *encoded);
  end_answer(out, query, 1);
  return out;
}

std::string dns_empty_answer(const DnsQuery& query, DnsCode code) {
  std::string out = begin_answer(query, code);
  end_answer(out, query, 0);
  return out;
}

std::string dns_refusal(std::string_view message, DnsCode code) {
  std::string out(message.substr(0, dns_header_size));
  const auto kept = static_cast<std::uint16_t>(number_at(message, 2) & (operation_mask | flag_recursion_desired));
  set_number(out, 2, static_cast<std::uint16_t>(flag_response | kept | flag_recursion_available | static_cast<std::uint16_t>(code)));
  std::fill(out.begin() + 4, out.end(), '\0');
  return out;
}

std::string dns_cut_answer(const DnsQuery& query) {
  std::string out = dns_empty_answer(query, DnsCode::no_error);
  mark_truncated(out);
  return out;
}

void append_framed(std::string& out, std::string_view message) {
  append16(out, static_cast<std::uint16_t>(message.size()));
  out += message;
}

std::optional<std::string_view> first_framed(std::string_view stream) {
  if (stream.size() < dns_length_size) return std::nullopt;
  const std::size_t length = number_at(stream, 0);
  if (stream.size() < dns_length_size + length) return std::nullopt;
  return stream.substr(dns_length_size, length);
}

namespace {

std::optional<IpAddress> reversed_ipv4(std::string_view name) {
  auto pieces = split(name, '.');
  if (pieces.size() != 4) return std::nullopt;
  linux::Ipv4 address;
  for (std::size_t i = pieces.size(); i-- > 0;) {
    auto octet = parse_integer<std::uint8_t>(pieces[i]);
    if (!octet || (pieces[i].size() > 1 && pieces[i].front() == '0')) return std::nullopt;
    address.value = address.value << 8 | *octet;
  }
  return IpAddress(address);
}

std::optional<IpAddress> reversed_ipv6(std::string_view name) {
  Ipv6Bytes address{};
  auto pieces = split(name, '.');
  if (pieces.size() != 2 * address.size()) return std::nullopt;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    auto nibble = parse_integer<std::uint8_t>(pieces[pieces.size() - 1 - i], 16);
    if (!nibble || pieces[pieces.size() - 1 - i].size() != 1) return std::nullopt;
    address[i / 2] = static_cast<std::uint8_t>(address[i / 2] << 4 | *nibble);
  }
  return IpAddress(address);
}

}  // namespace

std::optional<IpAddress> address_of_reverse_name(std::string_view name) {
  constexpr std::string_view ipv4_suffix = ".in-addr.arpa";
  constexpr std::string_view ipv6_suffix = ".ip6.arpa";
  if (name.ends_with(ipv4_suffix)) return reversed_ipv4(name.substr(0, name.size() - ipv4_suffix.size()));
  if (name.ends_with(ipv6_suffix)) return reversed_ipv6(name.substr(0, name.size() - ipv6_suffix.size()));
  return std::nullopt;
}

}  // namespace caisson::network
