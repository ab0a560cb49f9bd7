// Fuzzes DNS messages, which containers and their upstream servers send: what is read can be answered, and our answers are ones we
// would take from an upstream server.
#include <algorithm>

#include "fuzz/fuzz.hpp"
#include "network/dns_message.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  using namespace caisson::network;
  const auto message = fuzz::text_of(data, size);
  if (!is_dns_query(message)) {
    DnsQuery asked;
    asked.question = message.substr(std::min(message.size(), dns_header_size));
    if (message.size() >= 2) {
      const auto id = static_cast<std::uint16_t>(data[0] << 8 | data[1]);
      if (auto response = check_dns_response(message, asked, id)) fuzz::demand(message.size() >= dns_header_size, "a response has a header");
    }
    return 0;
  }
  auto query = parse_dns_query(message);
  if (!query) {
    fuzz::demand(dns_refusal(message, DnsCode::format_error).size() == dns_header_size, "what cannot be read can be refused");
    return 0;
  }
  NameAddresses addresses;
  addresses.ipv4.assign(40, linux::Ipv4{0x0a000001});
  addresses.ipv6.assign(40, Ipv6Bytes{0xfd});
  const std::string answer = dns_address_answer(*query, addresses, dns_plain_udp_size);
  fuzz::demand(answer.size() <= dns_plain_udp_size, "an answer keeps its limit");
  auto taken = check_dns_response(answer, *query, query->id);
  fuzz::demand(taken.ok() && taken->code == DnsCode::no_error, "our answer answers the question");
  if (auto named = dns_name_answer(*query, "web.backend")) fuzz::demand(check_dns_response(*named, *query, query->id).ok(), "so does a name");
  auto failed = check_dns_response(dns_empty_answer(*query, DnsCode::server_failure), *query, query->id);
  fuzz::demand(failed.ok() && failed->code == DnsCode::server_failure, "so does a failure");
  if (auto address = address_of_reverse_name(query->name)) fuzz::demand(query->name.ends_with(".arpa"), "a reversed address is below arpa");
  return 0;
}
