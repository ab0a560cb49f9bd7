// BoltDB files made by hand: what is read of whole ones, and that damaged ones are refused; what dockerd's records of networks become.
#include <gtest/gtest.h>

#include <cstring>

#include "base/strings.hpp"
#include "cli/bolt.hpp"
#include "cli/docker_folder.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/tree.hpp"

namespace caisson::cli {
namespace {

using Elements = std::vector<std::pair<std::string, std::string>>;
constexpr std::uint32_t page_bytes = 512;

template <typename T>
std::string number(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

std::string header(std::uint64_t id, std::uint16_t flags, std::size_t count, std::uint32_t further = 0) {
  return number(id) + number(flags) + number(static_cast<std::uint16_t>(count)) + number(further);
}

// Page 0 is one in a bucket's value. `further`: pages that it says it goes on for; 0: as many as it needs.
std::string leaf(std::uint64_t id, const Elements& elements, std::uint32_t flags = 0, std::uint32_t further = 0) {
  std::size_t size = 16;
  for (const auto& [key, value] : elements) size += 16 + key.size() + value.size();
  if (id != 0 && further == 0) further = static_cast<std::uint32_t>((size - 1) / page_bytes);
  std::string page = header(id, 2, elements.size(), further);
  std::string data;
  for (std::size_t i = 0; i < elements.size(); ++i) {
    const auto& [key, value] = elements[i];
    const auto position = static_cast<std::uint32_t>((elements.size() - i) * 16 + data.size());
    page += number(flags) + number(position) + number(static_cast<std::uint32_t>(key.size())) + number(static_cast<std::uint32_t>(value.size()));
    data += key + value;
  }
  return page + data;
}

std::string branch(std::uint64_t id, const std::vector<std::uint64_t>& children) {
  std::string page = header(id, 1, children.size());
  for (auto child : children) page += number(std::uint32_t{0}) + number(std::uint32_t{0}) + number(child);
  return page;
}

std::string bucket_at(std::uint64_t page) { return number(page) + number(std::uint64_t{0}); }

std::string meta(std::uint64_t id, std::uint64_t root, std::uint64_t transaction, std::uint32_t version = 2) {
  std::string record = number(0xED0CDAEDU) + number(version) + number(page_bytes) + number(0U) + number(root) + number(std::uint64_t{0}) + number(std::uint64_t{0}) + number(std::uint64_t{9}) + number(transaction);
  std::uint64_t sum = 14695981039346656037U;
  for (char byte : record) sum = (sum ^ static_cast<std::uint8_t>(byte)) * 1099511628211U;
  return header(id, 4, 0) + record + number(sum);
}

// Pages 2 and on.
std::string file_of(const std::vector<std::string>& pages, std::uint64_t root = 2) {
  std::string bytes;
  std::vector<std::string> all = {meta(0, root, 7), meta(1, root, 6)};
  all.insert(all.end(), pages.begin(), pages.end());
  for (const auto& page : all) {
    bytes += page;
    bytes.resize((bytes.size() + page_bytes - 1) / page_bytes * page_bytes, '\0');
  }
  return bytes;
}

// What lies in the bucket "b", or the error's text.
std::string contents(const std::string& bytes) {
  auto database = BoltDatabase::open(bytes, "file");
  if (!database.ok()) return database.error().text();
  std::string out;
  auto walked = database->for_each("b", [&](std::string_view key, std::string_view value) -> Status {
    out += concat(key, "=", value.size() > 20 ? concat(value.size(), " bytes") : value, " ");
    return {};
  });
  return walked.ok() ? out : walked.error().text();
}

TEST(BoltDatabase, a_small_bucket_lies_in_its_own_element) {
  EXPECT_EQ(contents(file_of({leaf(2, {{"a", bucket_at(0) + leaf(0, {{"no", "x"}})}, {"b", bucket_at(0) + leaf(0, {{"k", "v"}, {"l", ""}})}}, 1)})), "k=v l= ");
}

TEST(BoltDatabase, a_large_one_has_pages_of_its_own) {
  EXPECT_EQ(contents(file_of({leaf(2, {{"b", bucket_at(3)}}, 1), branch(3, {4, 5}), leaf(4, {{"k", "v"}}), leaf(5, {{"l", "w"}})})), "k=v l=w ");
}

TEST(BoltDatabase, a_value_may_be_longer_than_a_page) {
  EXPECT_EQ(contents(file_of({leaf(2, {{"b", bucket_at(3)}}, 1), leaf(3, {{"k", std::string(1000, 'x')}})})), "k=1000 bytes ");
}

TEST(BoltDatabase, buckets_in_a_bucket_are_left_out_and_a_missing_one_is_empty) {
  EXPECT_EQ(contents(file_of({leaf(2, {{"b", bucket_at(3)}}, 1), leaf(3, {{"inner", bucket_at(0)}}, 1)})), "");
  EXPECT_EQ(contents(file_of({leaf(2, {{"c", bucket_at(3)}}, 1)})), "");
}

TEST(BoltDatabase, the_newest_whole_head_counts) {
  auto pages = std::vector<std::string>{leaf(2, {{"b", bucket_at(0) + leaf(0, {{"old", ""}})}}, 1), leaf(3, {{"b", bucket_at(0) + leaf(0, {{"new", ""}})}}, 1)};
  auto bytes = file_of(pages);
  auto put = [&](std::size_t page, const std::string& head) { bytes.replace(page * page_bytes, head.size(), head); };
  put(1, meta(1, 3, 8));
  EXPECT_EQ(contents(bytes), "new= ");
  put(0, meta(0, 2, 9));
  EXPECT_EQ(contents(bytes), "old= ");
  bytes[20] ^= 1;  // the first is torn
  EXPECT_EQ(contents(bytes), "new= ");
  bytes[page_bytes + 20] ^= 1;
  EXPECT_EQ(contents(bytes), "file is no BoltDB file, or both of its heads are damaged");
  EXPECT_EQ(contents(""), "file is no BoltDB file, or both of its heads are damaged");
  put(0, meta(0, 2, 9, 3));
  EXPECT_EQ(contents(bytes), "file: version 3 of BoltDB's format is not known");
}

TEST(BoltDatabase, damaged_pages_are_refused) {
  const auto top = leaf(2, {{"b", bucket_at(3)}}, 1);
  EXPECT_EQ(contents(file_of({top})), "file: page 3 lies behind the end");
  EXPECT_EQ(contents(file_of({top, leaf(9, {})})), "file: page 3 says that it is another");
  EXPECT_EQ(contents(file_of({top, leaf(3, {}, 0, 7)})), "file: page 3 goes on behind the end");
  EXPECT_EQ(contents(file_of({top, branch(3, {3})})), "file: page 3 is in the tree twice");
  EXPECT_EQ(contents(file_of({top, branch(3, {4, 4}), leaf(4, {})})), "file: page 4 is in the tree twice");
  EXPECT_EQ(contents(file_of({top, header(3, 16, 0)})), "file: a page of kind 16 in a tree");
  EXPECT_EQ(contents(file_of({top, header(3, 2, 60000)})), "file: a page has more elements than room");
  EXPECT_EQ(contents(file_of({top, header(3, 2, 1) + number(0U) + number(16U) + number(0xFFFFFFFFU) + number(1U)})), "file: an element reaches out of its page");
  EXPECT_EQ(contents(file_of({top, header(3, 2, 1) + number(0U) + number(0xFFFFFFF0U) + number(16U) + number(1U)})), "file: an element reaches out of its page");
  EXPECT_EQ(contents(file_of({leaf(2, {{"b", "short"}}, 1)})), "file: the bucket b is cut off");
  EXPECT_EQ(contents(file_of({leaf(2, {{"b", bucket_at(0) + branch(0, {2})}}, 1)})), "file: a page of kind 1 in a tree");
  EXPECT_EQ(contents(file_of({leaf(2, {{"b", bucket_at(0)}}, 1)})), "file: a page is cut off");
}

TEST(BoltDatabase, a_tree_that_is_only_deep_is_refused) {
  std::vector<std::string> pages = {leaf(2, {{"b", bucket_at(3)}}, 1)};
  for (std::uint64_t page = 3; page < 100; ++page) pages.push_back(branch(page, {page + 1}));
  pages.push_back(leaf(100, {}));
  EXPECT_EQ(contents(file_of(pages)), "file: the tree is too deep");
}

TEST(BoltDatabase, a_file_that_is_cut_off_anywhere_is_refused_or_read) {
  const auto whole = file_of({leaf(2, {{"b", bucket_at(3)}}, 1), branch(3, {4, 5}), leaf(4, {{"k", "v"}}), leaf(5, {{"l", "w"}})});
  for (std::size_t size = 0; size < whole.size(); size += 7) EXPECT_NE(contents(whole.substr(0, size)), "k=v l=w ") << size;
}

// As dockerd 20.10 wrote them.
const std::string counter(8, '\x01');
const std::string app = counter + R"({"addrSpace":"LocalDefault","attachable":true,"configFrom":"","configOnly":false,"created":"2026-11-26T02:23:46.39641794Z","enableIPv6":true,)"
  R"("generic":{"com.docker.network.enable_ipv6":true,"com.docker.network.generic":{"com.docker.network.driver.mtu":"1400"},"com.docker.network.internal":true},)"
  R"("id":"2700f23b04cc7bffd282e0270d4b18c4","inDelete":false,"ingress":false,"internal":true,"ipamOptions":{},"ipamType":"default",)"
  R"("ipamV4Config":"[{\"PreferredPool\":\"10.77.0.0/24\",\"SubPool\":\"10.77.0.128/25\",\"Gateway\":\"10.77.0.9\",\"AuxAddresses\":{\"printer\":\"10.77.0.5\"}}]",)"
  R"("ipamV4Info":"[{\"IPAMData\":\"{\\\"AddressSpace\\\":\\\"LocalDefault\\\",\\\"Gateway\\\":\\\"10.77.0.9/24\\\",\\\"Pool\\\":\\\"10.77.0.0/24\\\"}\",\"PoolID\":\"x\"}]",)"
  R"("ipamV6Config":"[{\"PreferredPool\":\"fd00:77::/64\",\"SubPool\":\"\",\"Gateway\":\"\",\"AuxAddresses\":null}]","labels":{"owner":"me"},"name":"app","networkType":"bridge","scope":"local"})";
const std::string plain = counter + R"({"created":"2026-11-26T02:23:46Z","generic":{"com.docker.network.generic":{}},"id":"02da14bc89f898679da1","ipamType":"default",)"
  R"("ipamV4Config":"[{\"PreferredPool\":\"\",\"SubPool\":\"\",\"Gateway\":\"\",\"AuxAddresses\":null}]",)"
  R"("ipamV4Info":"[{\"IPAMData\":\"{\\\"Gateway\\\":\\\"172.18.0.1/16\\\",\\\"Pool\\\":\\\"172.18.0.0/16\\\"}\",\"PoolID\":\"x\"}]","labels":null,"name":"plain","networkType":"bridge","scope":"local"})";

TEST(DockerNetwork, keeps_what_its_user_asked_for) {
  auto network = parse_docker_network(app, "db");
  ASSERT_TRUE(network.ok()) << network.error().text();
  EXPECT_EQ(network->refusal, "");
  EXPECT_EQ(network->bridge, "br-2700f23b04cc");
  EXPECT_EQ(to_text(network->request.at("IPAM")), R"({"Driver":"default","Options":{},"Config":[{"Subnet":"10.77.0.0/24","IPRange":"10.77.0.128/25","Gateway":"10.77.0.9","AuxiliaryAddresses":{"printer":"10.77.0.5"}},{"Subnet":"fd00:77::/64"}]})");
  EXPECT_EQ(to_text(network->request.at("Options")), R"({"com.docker.network.driver.mtu":"1400"})");
  EXPECT_EQ(to_text(network->request.at("Labels")), R"({"owner":"me"})");
  for (const char* key : {"Internal", "Attachable", "EnableIPv6"}) EXPECT_TRUE(network->request.at(key).get_bool()) << key;
}

TEST(DockerNetwork, asks_by_name_for_the_subnet_that_dockerd_chose) {
  auto network = parse_docker_network(plain, "db");
  ASSERT_TRUE(network.ok()) << network.error().text();
  EXPECT_EQ(to_text(network->request.at("IPAM").at("Config")), R"([{"Subnet":"172.18.0.0/16","Gateway":"172.18.0.1"}])");
  EXPECT_FALSE(network->request.at("Internal").get_bool());
}

TEST(DockerNetwork, of_a_swarm_or_without_containers_of_its_own_is_refused) {
  for (auto [change, words] : {std::pair(R"("scope":"swarm")", "it belongs to a swarm"), std::pair(R"("ingress":true,"scope":"local")", "it belongs to a swarm"),
                               std::pair(R"("configOnly":true,"scope":"local")", "it only holds settings for other networks"), std::pair(R"("inDelete":true,"scope":"local")", "dockerd was removing it")}) {
    auto network = parse_docker_network(replace_all(plain, R"("scope":"local")", change), "db");
    ASSERT_TRUE(network.ok()) << network.error().text();
    EXPECT_EQ(network->refusal, words);
  }
}

TEST(DockerNetwork, that_is_damaged_is_refused_by_the_place) {
  EXPECT_EQ(parse_docker_network("1234", "db").error().text(), "db: the record is cut off");
  EXPECT_FALSE(parse_docker_network(counter + "{", "db").ok());
  EXPECT_EQ(parse_docker_network(counter + "{}", "db").error().text(), "db: a network without a name");
  auto broken = parse_docker_network(replace_all(plain, R"(\"PreferredPool\":\"\")", R"(\"PreferredPool\":7)"), "db");
  ASSERT_FALSE(broken.ok());
  EXPECT_NE(broken.error().text().find("ipamV4Config"), std::string::npos) << broken.error().text();
}

class DockerDatabases : public testing::Test {
 protected:
  DockerDatabases() : root_(concat("/tmp/caisson-test-docker-databases-", linux::getpid())) {
    EXPECT_TRUE(linux::make_dirs(root_ + "/network/files", 0755).ok() && linux::make_dirs(root_ + "/volumes", 0755).ok());
  }
  ~DockerDatabases() override { EXPECT_TRUE(linux::remove_tree(root_).ok()); }
  std::string root_;
};

TEST_F(DockerDatabases, give_the_users_networks_in_their_order_and_refuse_a_second_of_one_name) {
  EXPECT_TRUE(read_docker_networks(root_)->empty());
  const std::string prefix = "docker/network/v1.0/network/";
  auto builtin = replace_all(plain, R"("name":"plain")", R"("name":"bridge")");
  auto later = replace_all(replace_all(plain, "02da14", "ffda14"), "02:23:46Z", "02:23:59Z");
  const Elements records = {{prefix, counter}, {prefix + "00", later}, {prefix + "02", plain}, {prefix + "12", builtin}, {prefix + "27", app}, {"docker/network/v1.0/bridge/x", counter}};
  ASSERT_TRUE(linux::write_file(root_ + "/network/files/local-kv.db", file_of({leaf(2, {{"libnetwork", bucket_at(3)}}, 1), leaf(3, records)})).ok());
  auto networks = read_docker_networks(root_);
  ASSERT_TRUE(networks.ok()) << networks.error().text();
  std::vector<std::string> seen;
  for (const auto& network : *networks) seen.push_back(concat(network.name, network.refusal.empty() ? "" : ": ", network.refusal));
  EXPECT_EQ(seen, (std::vector<std::string>{"app", "plain", "plain: another network has the same name"}));
}

TEST_F(DockerDatabases, give_volumes_their_labels) {
  EXPECT_TRUE(read_volume_labels(root_)->empty());
  const Elements records = {{"data", R"({"Name":"data","Driver":"local","Labels":{"a":"b"},"Options":null})"}, {"none", R"({"Name":"none","Labels":null})"}};
  ASSERT_TRUE(linux::write_file(root_ + "/volumes/metadata.db", file_of({leaf(2, {{"volumes", bucket_at(3)}}, 1), leaf(3, records)})).ok());
  auto labels = read_volume_labels(root_);
  ASSERT_TRUE(labels.ok()) << labels.error().text();
  EXPECT_EQ((*labels)["data"], (std::map<std::string, std::string>{{"a", "b"}}));
  EXPECT_TRUE((*labels)["none"].empty());
}

}  // namespace
}  // namespace caisson::cli
