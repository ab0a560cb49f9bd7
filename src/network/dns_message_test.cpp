// Tests of DNS messages: bytes in, bytes out.
#include "network/dns_message.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.hpp"

namespace caisson::network {
namespace {

using testing::HasSubstr;

std::string bytes(std::string_view hex) {
  auto parsed = from_hex(replace_all(hex, " ", ""));
  if (!parsed) return {};
  return {parsed->begin(), parsed->end()};
}
std::string hex(std::string_view message) { return to_hex(std::span(reinterpret_cast<const std::uint8_t*>(message.data()), message.size())); }

constexpr const char* web_a = "1234 0100 0001 0000 0000 0000 03576542 00 0001 0001";

DnsQuery must_parse(std::string_view message) {
  auto query = parse_dns_query(message);
  EXPECT_TRUE(query.ok()) << query.error().text();
  return std::move(query).value_or(DnsQuery{});
}

TEST(DnsMessage, a_question_is_read_in_lower_case_and_kept_as_it_came) {
  const DnsQuery query = must_parse(bytes(web_a));
  EXPECT_EQ(query.id, 0x1234);
  EXPECT_EQ(query.name, "web");
  EXPECT_EQ(query.type, 1);
  EXPECT_EQ(query.qclass, 1);
  EXPECT_EQ(hex(query.question), "035765420000010001");
  EXPECT_FALSE(query.edns_size.has_value());
}

TEST(DnsMessage, the_size_a_client_takes_is_read_from_its_opt_record) {
  const DnsQuery query = must_parse(bytes("1234 0100 0001 0000 0000 0001 037765620161 00 0001 0001 00 0029 04d0 00000000 0000"));
  EXPECT_EQ(query.name, "web.a");
  EXPECT_EQ(query.edns_size, 1232);
}

TEST(DnsMessage, a_label_with_a_dot_inside_is_no_two_labels) {
  EXPECT_EQ(must_parse(bytes("1234 0100 0001 0000 0000 0000 03612e62 00 0001 0001")).name, "a\\046b");
  EXPECT_EQ(must_parse(bytes("1234 0100 0001 0000 0000 0000 00 0001 0001")).name, "");
}

TEST(DnsMessage, broken_messages_are_refused) {
  for (const char* broken : {
           "1234 0100 0001 0000 0000 0000",                                              // no question
           "1234 0100 0002 0000 0000 0000 0161 00 0001 0001",                            // two promised
           "1234 0100 0000 0000 0000 0000",                                              // none
           "1234 0100 0001 0000 0000 0000 0161",                                         // the name has no end
           "1234 0100 0001 0000 0000 0000 3f61 00 0001 0001",                            // a label beyond the end
           "1234 0100 0001 0000 0000 0000 4161 00 0001 0001",                            // a label of unknown kind
           "1234 0100 0001 0000 0000 0000 c00c 0001 0001",                               // leads to itself
           "1234 0100 0001 0000 0000 0000 0161 c00c 0001 0001",                          // leads to its own beginning
           "1234 0100 0001 0000 0000 0000 c000 0001 0001",                               // leads into the header
           "1234 0100 0001 0000 0000 0000 0161 00 0001",                                 // no class
           "1234 0100 0001 0000 0000 0001 0161 00 0001 0001",                            // a record is missing
           "1234 0100 0001 0000 0000 0001 0161 00 0001 0001 00 0029 04d0 00000000 0005",  // its data go beyond the end
           "1234 0100 0001 0000 0000 0001 0161 00 0001 0001 c013 0029 04d0 00000000 0000",  // its name leads to itself
       }) {
    auto query = parse_dns_query(bytes(broken));
    ASSERT_FALSE(query.ok()) << broken;
    EXPECT_EQ(query.error().kind(), ErrorKind::invalid) << broken;
  }
  std::string long_name = bytes("1234 0100 0001 0000 0000 0000");
  for (int i = 0; i < 5; ++i) long_name += '\x3f' + std::string(63, 'a');
  long_name += bytes("00 0001 0001");
  EXPECT_THAT(parse_dns_query(long_name).error().text(), HasSubstr("255"));
  EXPECT_EQ(parse_dns_query(bytes("1234 2800 0001 0000 0000 0000 0161 00 0001 0001")).error().kind(), ErrorKind::unsupported);
}

TEST(DnsMessage, only_queries_are_answered_at_all) {
  EXPECT_TRUE(is_dns_query(bytes(web_a)));
  EXPECT_FALSE(is_dns_query(bytes("1234 8180 0001 0000 0000 0000 0161 00 0001 0001")));
  EXPECT_FALSE(is_dns_query(bytes("1234 0100 0001")));
}

TEST(DnsMessage, every_beginning_of_a_message_is_refused_without_reading_beyond_it) {
  const std::string whole = bytes("1234 0100 0001 0000 0000 0001 037765620161 00 0001 0001 00 0029 04d0 00000000 0000");
  for (std::size_t size = 0; size < whole.size(); ++size) EXPECT_FALSE(parse_dns_query(whole.substr(0, size)).ok()) << size;
}

TEST(DnsMessage, addresses_are_answered_as_docker_does_it) {
  NameAddresses addresses;
  addresses.ipv4 = {linux::Ipv4{0x0a4d0002}, linux::Ipv4{0x0a4d0003}};
  // docker 20.10 for the same question, but that it repeats the name in place of c00c.
  EXPECT_EQ(hex(dns_address_answer(must_parse(bytes(web_a)), addresses, 512)),
            "123481800001000200000000035765420000010001"
            "c00c00010001000002580004" "0a4d0002"
            "c00c00010001000002580004" "0a4d0003");
}

TEST(DnsMessage, a_name_without_an_address_of_the_kind_is_answered_as_empty) {
  NameAddresses addresses;
  addresses.ipv4 = {linux::Ipv4{0x0a4d0002}};
  EXPECT_EQ(hex(dns_address_answer(must_parse(bytes("1234 0100 0001 0000 0000 0000 0377656200 001c 0001")), addresses, 512)),
            "1234818000010000000000000377656200001c0001");
  addresses.ipv6 = {Ipv6Bytes{0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2}};
  EXPECT_EQ(hex(dns_address_answer(must_parse(bytes("1234 0100 0001 0000 0000 0000 0377656200 001c 0001")), addresses, 512)),
            "1234818000010001000000000377656200001c0001"
            "c00c001c0001000002580010" "fd000000000000000000000000000002");
  const std::string any = dns_address_answer(must_parse(bytes("1234 0100 0001 0000 0000 0000 0377656200 00ff 0001")), addresses, 512);
  EXPECT_EQ(hex(any.substr(6, 2)), "0002") << "ANY has both";
}

TEST(DnsMessage, what_does_not_fit_is_left_out_and_said) {
  NameAddresses addresses;
  for (std::uint32_t i = 0; i < 100; ++i) addresses.ipv4.push_back(linux::Ipv4{0x0a000000 + i});
  const std::string cut = dns_address_answer(must_parse(bytes(web_a)), addresses, 512);
  EXPECT_LE(cut.size(), 512U);
  EXPECT_EQ(hex(cut.substr(2, 2)), "8380");
  EXPECT_EQ(hex(cut.substr(6, 2)), "001e");  // 30 records of 16 bytes behind 21
  const std::string whole = dns_address_answer(must_parse(bytes(web_a)), addresses, 65535);
  EXPECT_EQ(hex(whole.substr(2, 2)), "8180");
  EXPECT_EQ(hex(whole.substr(6, 2)), "0064");
}

TEST(DnsMessage, a_client_that_speaks_edns_is_answered_in_edns) {
  const DnsQuery query = must_parse(bytes("1234 0100 0001 0000 0000 0001 03776562 00 0001 0001 00 0029 04d0 00000000 0000"));
  EXPECT_EQ(hex(dns_empty_answer(query, DnsCode::server_failure)), "123481820001000000000001037765620000010001" "00002904d0000000000000");
}

TEST(DnsMessage, names_of_addresses_are_answered) {
  const DnsQuery query = must_parse(bytes("1234 0100 0001 0000 0000 0000 0161 00 000c 0001"));
  EXPECT_EQ(hex(*dns_name_answer(query, "Web.n1")), "123481800001000100000000016100000c0001" "c00c000c0001000002580008" "03576562026e3100");
  EXPECT_FALSE(dns_name_answer(query, std::string(64, 'a')).has_value()) << "a name of docker's may be longer than a label";
  EXPECT_FALSE(dns_name_answer(query, "a..b").has_value());
}

TEST(DnsMessage, what_could_not_be_read_is_refused_under_its_id) {
  EXPECT_EQ(hex(dns_refusal(bytes("1234 0100 0002 0000 0000 0000 01"), DnsCode::format_error)), "123481810000000000000000");
  EXPECT_EQ(hex(dns_refusal(bytes("1234 2800 0001 0000 0000 0000"), DnsCode::not_implemented)), "1234a8840000000000000000");
}

TEST(DnsMessage, an_upstream_answer_must_be_to_what_was_asked) {
  const DnsQuery query = must_parse(bytes(web_a));
  const std::string good = bytes("4321 8180 0001 0001 0000 0000 03776562 00 0001 0001 c00c 0001 0001 00000258 0004 0a4d0002");
  ASSERT_TRUE(check_dns_response(good, query, 0x4321).ok()) << "the case of letters does not matter";
  EXPECT_FALSE(check_dns_response(good, query, 0x1234).ok()) << "another id";
  EXPECT_FALSE(check_dns_response(bytes("4321 8180 0001 0000 0000 0000 03776563 00 0001 0001"), query, 0x4321).ok()) << "another name";
  EXPECT_FALSE(check_dns_response(bytes("4321 8180 0001 0000 0000 0000 03776562 00 001c 0001"), query, 0x4321).ok()) << "another type";
  EXPECT_FALSE(check_dns_response(bytes("4321 0100 0001 0000 0000 0000 03776562 00 0001 0001"), query, 0x4321).ok()) << "a question";
  EXPECT_FALSE(check_dns_response(good.substr(0, good.size() - 1), query, 0x4321).ok()) << "a broken record";
  EXPECT_TRUE(check_dns_response(bytes("4321 8380 0001 0001 0000 0000 03776562 00 0001 0001 c00c"), query, 0x4321)->is_truncated);
  EXPECT_EQ(check_dns_response(bytes("4321 8182 0000 0000 0000 0000"), query, 0x4321)->code, DnsCode::server_failure);
}

TEST(DnsMessage, compressed_names_of_an_upstream_must_lead_backwards) {
  const DnsQuery query = must_parse(bytes(web_a));
  // The name of the record: "x" and a pointer to the record's own beginning (0x15), then one to a later place.
  EXPECT_FALSE(check_dns_response(bytes("4321 8180 0001 0001 0000 0000 03776562 00 0001 0001 0178c015 0001 0001 00000258 0000"), query, 0x4321).ok());
  EXPECT_FALSE(check_dns_response(bytes("4321 8180 0001 0001 0000 0000 03776562 00 0001 0001 c020 0001 0001 00000258 0000"), query, 0x4321).ok());
  EXPECT_TRUE(check_dns_response(bytes("4321 8180 0001 0001 0000 0000 03776562 00 0001 0001 0178c00c 0001 0001 00000258 0000"), query, 0x4321).ok());
}

TEST(DnsMessage, messages_of_a_stream_are_taken_when_they_are_whole) {
  std::string stream;
  append_framed(stream, "first");
  append_framed(stream, "");
  EXPECT_EQ(hex(stream), "00056669727374" "0000");
  EXPECT_EQ(first_framed(stream), "first");
  EXPECT_EQ(first_framed(stream.substr(7)), "");
  for (std::size_t size = 0; size < 7; ++size) EXPECT_FALSE(first_framed(stream.substr(0, size)).has_value()) << size;
}

TEST(DnsMessage, reversed_addresses_are_understood) {
  EXPECT_EQ(address_of_reverse_name("2.0.30.172.in-addr.arpa"), IpAddress(linux::Ipv4{0xac1e0002}));
  const Ipv6Bytes expected{0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34};
  EXPECT_EQ(address_of_reverse_name("4.3.2.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa"), IpAddress(expected));
  for (const char* other : {"0.30.172.in-addr.arpa", "256.0.30.172.in-addr.arpa", "02.0.30.172.in-addr.arpa", "a.0.30.172.in-addr.arpa", "in-addr.arpa",
                            "1.2.ip6.arpa", "web", "", "2.0.30.172.in-addr.arpa.n1"})
    EXPECT_FALSE(address_of_reverse_name(other).has_value()) << other;
}

TEST(DnsConfig, servers_of_the_host_on_loopback_are_asked_from_the_host) {
  auto upstreams = host_upstreams("# made by hand\nnameserver 127.0.0.53\nnameserver\t192.0.2.1 \nnameserver ::1\nnameserver fe80::1%eth0\nsearch a b\n");
  ASSERT_EQ(upstreams.size(), 3U);
  EXPECT_EQ(upstreams[0].address.text(), "127.0.0.53:53");
  EXPECT_TRUE(upstreams[0].from_host);
  EXPECT_EQ(upstreams[1].address.text(), "192.0.2.1:53");
  EXPECT_FALSE(upstreams[1].from_host);
  EXPECT_TRUE(upstreams[2].from_host);
  auto own = container_upstreams({"127.0.0.1", "127.0.0.11", "2001:db8::1"});
  ASSERT_TRUE(own.ok());
  ASSERT_EQ(own->size(), 2U);
  EXPECT_FALSE(own->front().from_host) << "the user's server is the container's";
  EXPECT_EQ(container_upstreams({"dns.example"}).error().kind(), ErrorKind::invalid);
}

}  // namespace
}  // namespace caisson::network
