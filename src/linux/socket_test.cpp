// Sockets: passed descriptors, long paths, modes from the first moment.
#include "linux/socket.hpp"

#include <cerrno>

#include "linux/event.hpp"
#include "linux/process.hpp"
#include "linux/testing.hpp"

namespace caisson::linux {
namespace {

int open_descriptors() { return static_cast<int>(must(list_dir("/proc/self/fd")).size()); }

TEST(Socket, descriptors_travel_with_a_message_and_are_close_on_exec) {
  const SocketPair pair = must(socketpair(UnixType::seqpacket));
  const UniqueFd memfd = must(sealed_memfd("x", "content"));
  const int fds[] = {memfd.get(), memfd.get()};
  must(send_message(pair.first.get(), "two", fds));
  const Message message = must(receive_message(pair.second.get(), 100, 4));
  EXPECT_EQ(message.bytes, "two");
  ASSERT_EQ(message.fds.size(), 2U);
  EXPECT_EQ(must(read_all(message.fds[0].get())), "content");
  EXPECT_EQ(::fcntl(message.fds[1].get(), F_GETFD), FD_CLOEXEC);
}

TEST(Socket, unwanted_descriptors_are_refused_and_not_leaked) {
  const SocketPair pair = must(socketpair(UnixType::seqpacket));
  const UniqueFd memfd = must(memfd_create("x"));
  const int before = open_descriptors();
  const int fds[] = {memfd.get(), memfd.get(), memfd.get()};
  must(send_message(pair.first.get(), "x", fds));
  EXPECT_EQ(receive_message(pair.second.get(), 100, 2).error().error_number(), EMSGSIZE);
  must(send_message(pair.first.get(), "x", fds));
  EXPECT_FALSE(receive_message(pair.second.get(), 100, 0));
  EXPECT_EQ(open_descriptors(), before);
}

TEST(Socket, a_message_longer_than_the_limit_is_an_error) {
  const SocketPair pair = must(socketpair(UnixType::seqpacket));
  must(send_message(pair.first.get(), std::string(101, 'x')));
  EXPECT_EQ(receive_message(pair.second.get(), 100).error().error_number(), EMSGSIZE);
}

TEST(Socket, a_closed_peer_reads_as_an_empty_message_and_writes_as_an_error) {
  SocketPair pair = must(socketpair(UnixType::stream));
  pair.first.reset();
  const Message message = must(receive_message(pair.second.get(), 10, 1));
  EXPECT_TRUE(message.bytes.empty() && message.fds.empty());
  EXPECT_EQ(send_all(pair.second.get(), "x").error().error_number(), EPIPE);
}

TEST(Socket, paths_longer_than_sun_path_work) {
  const TemporaryFolder folder;
  std::string deep = folder.path();
  for (int i = 0; i < 6; ++i) deep += "/a-folder-with-a-rather-long-name";
  must(make_dirs(deep, 0700));
  const std::string path = deep + "/socket";
  ASSERT_GT(path.size(), 200U);
  const UniqueFd listener = must(unix_listen(path, UnixType::stream, 0600));
  const UniqueFd client = must(unix_connect(path, UnixType::stream));
  const UniqueFd server = must(accept4(listener.get()));
  must(send_all(client.get(), "hello"));
  EXPECT_EQ(must(receive_message(server.get(), 10)).bytes, "hello");
  const PeerCredentials peer = must(peer_credentials(server.get()));
  EXPECT_EQ(peer.pid, getpid());
  EXPECT_EQ(peer.uid, geteuid());
  EXPECT_EQ(must(peer_groups(server.get())), must(getgroups()));
}

TEST(Socket, a_file_name_that_cannot_fit_is_refused) {
  const TemporaryFolder folder;
  EXPECT_EQ(unix_listen(folder / std::string(150, 'n'), UnixType::stream, 0600).error().error_number(), ENAMETOOLONG);
}

TEST(Socket, the_file_has_the_asked_mode_whatever_the_umask) {
  const TemporaryFolder folder;
  const mode_t old = umask(022);
  const UniqueFd one = must(unix_listen(folder / "strict", UnixType::stream, 0600));
  const UniqueFd two = must(unix_listen(folder / "loose", UnixType::stream, 0666));
  umask(old);
  EXPECT_EQ(must(stat(folder / "strict")).st_mode & 0777U, 0600U);
  EXPECT_EQ(must(stat(folder / "loose")).st_mode & 0777U, 0666U);
}

TEST(Socket, a_used_path_conflicts_and_a_dead_one_is_unavailable) {
  const TemporaryFolder folder;
  {
    const UniqueFd listener = must(unix_listen(folder / "s", UnixType::stream, 0600));
    EXPECT_EQ(unix_listen(folder / "s", UnixType::stream, 0600).error().error_number(), EADDRINUSE);
  }
  EXPECT_EQ(unix_connect(folder / "s", UnixType::stream).error().kind(), ErrorKind::unavailable);
  EXPECT_EQ(unix_connect(folder / "none", UnixType::stream).error().kind(), ErrorKind::not_found);
}

TEST(Socket, addresses_are_parsed_and_printed) {
  EXPECT_EQ(must(SocketAddress::parse("127.0.0.1", 80)).text(), "127.0.0.1:80");
  EXPECT_EQ(must(SocketAddress::parse("::1", 8080)).text(), "[::1]:8080");
  EXPECT_EQ(SocketAddress::ipv4(0x7f000001, 1).text(), "127.0.0.1:1");
  for (const char* bad : {"", "localhost", "1.2.3", "1.2.3.4.5", ":::"})
    EXPECT_EQ(SocketAddress::parse(bad, 1).error().kind(), ErrorKind::invalid) << bad;
}

TEST(Socket, a_tcp_connection_is_made_on_port_zero) {
  const UniqueFd listener = must(socket(AF_INET, SOCK_STREAM));
  must(bind(listener.get(), must(SocketAddress::parse("127.0.0.1", 0))));
  must(listen(listener.get()));
  const SocketAddress address = must(getsockname(listener.get()));
  ASSERT_NE(address.port(), 0);
  const UniqueFd client = must(socket(AF_INET, SOCK_STREAM));
  must(connect(client.get(), address));
  EXPECT_TRUE(socket_error(client.get()));
  EXPECT_EQ(must(getpeername(client.get())).port(), address.port());
}

TEST(Datagram, it_comes_with_its_sender_and_its_whole_size) {
  UniqueFd server = must(socket(AF_INET, SOCK_DGRAM));
  must(bind(server.get(), SocketAddress::ipv4(INADDR_LOOPBACK, 0)));
  UniqueFd client = must(socket(AF_INET, SOCK_DGRAM));
  must(bind(client.get(), SocketAddress::ipv4(INADDR_LOOPBACK, 0)));
  std::array<char, 4> buffer{};
  EXPECT_FALSE(must(receive_datagram(server.get(), buffer)).has_value()) << "nothing waits, and the call does not";
  must(send_datagram(client.get(), "longer", must(getsockname(server.get()))));
  must(wait_readable(server.get(), 5000));
  auto datagram = must(receive_datagram(server.get(), buffer));
  ASSERT_TRUE(datagram.has_value());
  EXPECT_EQ(datagram->size, 6U) << "it did not fit";
  EXPECT_EQ(std::string_view(buffer.data(), buffer.size()), "long");
  EXPECT_EQ(datagram->from.text(), must(getsockname(client.get())).text());
}

}  // namespace
}  // namespace caisson::linux
