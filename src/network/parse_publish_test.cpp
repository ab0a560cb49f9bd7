// Tests of docker's --publish syntax.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "network/network.hpp"

namespace caisson::network {
namespace {

using testing::HasSubstr;

PortBinding tcp(std::string ip, std::uint16_t host, std::uint16_t container) {
  PortBinding binding;
  binding.host_ip = std::move(ip);
  binding.host_port = host;
  binding.container_port = container;
  return binding;
}
PortBinding udp(std::string ip, std::uint16_t host, std::uint16_t container) {
  PortBinding binding = tcp(std::move(ip), host, container);
  binding.protocol = Protocol::udp;
  return binding;
}

TEST(ParsePublish, every_form_of_docker_is_understood) {
  using Bindings = std::vector<PortBinding>;
  EXPECT_EQ(*parse_publish("80"), Bindings{tcp("", 0, 80)});
  EXPECT_EQ(*parse_publish("8080:80"), Bindings{tcp("", 8080, 80)});
  EXPECT_EQ(*parse_publish("8080:80/tcp"), Bindings{tcp("", 8080, 80)});
  EXPECT_EQ(*parse_publish("53:53/UDP"), Bindings{udp("", 53, 53)});
  EXPECT_EQ(*parse_publish("127.0.0.1:53:53/udp"), Bindings{udp("127.0.0.1", 53, 53)});
  EXPECT_EQ(*parse_publish("127.0.0.1::80"), Bindings{tcp("127.0.0.1", 0, 80)});
  EXPECT_EQ(*parse_publish("[::1]:8080:80"), Bindings{tcp("::1", 8080, 80)});
  EXPECT_EQ(*parse_publish("[::]::80"), Bindings{tcp("::", 0, 80)});
  EXPECT_EQ(*parse_publish("8000-8002:80-82"), (Bindings{tcp("", 8000, 80), tcp("", 8001, 81), tcp("", 8002, 82)}));
  EXPECT_EQ(*parse_publish("80-81/udp"), (Bindings{udp("", 0, 80), udp("", 0, 81)}));
  auto any_of = parse_publish("8000-8010:80");
  ASSERT_TRUE(any_of.ok());
  ASSERT_EQ(any_of->size(), 1U);
  EXPECT_EQ(any_of->front().host_port, 8000);
  EXPECT_EQ(any_of->front().host_port_last, 8010);
}

TEST(ParsePublish, broken_texts_are_refused_and_named) {
  for (const char* text : {"", ":", "80:", ":80:", "a", "80:a", "a:80", "0", "0:80", "65536", "80:65536", "-1", "80-", "-80", "82-80", "8000-8001:80-82",
                           "80-81:8000-8002", "1.2.3:80:80", "300.1.1.1:80:80", "localhost:80:80", "::1:80:80", "[::1:80:80", "[x]:80:80", "[::1]:80",
                           "80/", "80/icmp", "80:80/tcp/udp", "80 ", " 80", "+80", "0x50", "127.0.0.1:1:2:3"}) {
    auto parsed = parse_publish(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_EQ(parsed.error().kind(), ErrorKind::invalid) << text;
    EXPECT_THAT(parsed.error().text(), HasSubstr(std::string("publish \"") + text + "\"")) << text;
  }
  EXPECT_EQ(parse_publish("80/sctp")->front().protocol, Protocol::sctp);
  EXPECT_EQ(parse_publish("80/dccp").error().kind(), ErrorKind::invalid);
  EXPECT_THAT(parse_publish("80:99999").error().text(), HasSubstr("invalid container port: 99999"));
  EXPECT_THAT(parse_publish("99999:80").error().text(), HasSubstr("invalid host port: 99999"));
}

}  // namespace
}  // namespace caisson::network
