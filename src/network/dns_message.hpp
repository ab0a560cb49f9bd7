// DNS messages (RFC 1035), as far as a resolver needs them that answers a few names itself and passes everything else on unread. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.hpp"
#include "network/dns_server.hpp"

namespace caisson::network {

enum class DnsType : std::uint16_t { a = 1, ptr = 12, aaaa = 28, opt = 41, any = 255 };
enum class DnsCode : std::uint8_t { no_error = 0, format_error = 1, server_failure = 2, name_error = 3, not_implemented = 4 };

/// A message with one question. Names come in lower case without the dot at the end; a byte that is no plain character of a name (a dot
/// inside a label too) comes as "\DDD", so that it never equals a name of ours.
struct DnsQuery {
  std::uint16_t id = 0;
  std::uint16_t flags = 0;
  std::string name;
  std::uint16_t type = 0;
  std::uint16_t qclass = 0;
  std::string question;                       ///< its bytes as they came, to be echoed with the case of their letters
  std::optional<std::uint16_t> edns_size;     ///< what the client takes by UDP; none: it knows no EDNS
  bool operator==(const DnsQuery&) const = default;
};

inline constexpr std::size_t dns_header_size = 12;
inline constexpr std::size_t dns_plain_udp_size = 512;   ///< what every client takes (RFC 1035 4.2.1)
inline constexpr std::size_t dns_message_limit = 65535;
inline constexpr std::uint32_t dns_ttl_s = 600;          ///< docker's

/// Whether `message` is to be answered at all: a whole header of a query. Anything else gets no answer, so that two servers never answer
/// each other for ever.
bool is_dns_query(std::string_view message);
/// All records are walked, so that what is passed on has no broken end. Errors: invalid (broken or several questions: FORMERR),
/// unsupported (another operation than a query: NOTIMP).
Result<DnsQuery> parse_dns_query(std::string_view message);

/// What an upstream server has said.
struct DnsResponse {
  DnsCode code = DnsCode::no_error;
  bool is_truncated = false;
};
/// Whether `message` answers `query` sent under `id`: same id, same question, whole records. Errors: invalid; the message is to be ignored then.
Result<DnsResponse> check_dns_response(std::string_view message, const DnsQuery& query, std::uint16_t id);
/// Puts another id into a message of at least a header.
void set_dns_id(std::string& message, std::uint16_t id);

/// An answer with these addresses (each of the query's family, all of them for ANY; none: the name exists without such a record). Answers that do
/// not fit into `limit` bytes are left out, and the answer says that it is cut.
std::string dns_address_answer(const DnsQuery& query, const NameAddresses& addresses, std::size_t limit);
/// None when `name` cannot be told in DNS (a label longer than 63 bytes).
std::optional<std::string> dns_name_answer(const DnsQuery& query, std::string_view name);
/// An answer without records.
std::string dns_empty_answer(const DnsQuery& query, DnsCode code);
/// For a message that could not be parsed. Precondition: is_dns_query(message).
std::string dns_refusal(std::string_view message, DnsCode code);
/// The header and question of an upstream's answer that is too long for the client's datagram, marked as cut.
std::string dns_cut_answer(const DnsQuery& query);

/// On TCP each message has its length in front (RFC 1035 4.2.2).
inline constexpr std::size_t dns_length_size = 2;
void append_framed(std::string& out, std::string_view message);
/// The first message of a stream, without its length; none when it has not come whole yet. A view into `stream`.
std::optional<std::string_view> first_framed(std::string_view stream);

/// "2.0.30.172.in-addr.arpa", or 32 nibbles below ip6.arpa. None: `name` is no reversed address.
std::optional<IpAddress> address_of_reverse_name(std::string_view name);

}  // namespace caisson::network
