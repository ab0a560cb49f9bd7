// Databases of package managers, layers stacked upon each other, versions, advisories and the bill of materials.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/json.hpp"
#include "base/strings.hpp"
#include "image/tar_writer.hpp"
#include "inventory/advisories.hpp"
#include "inventory/databases.hpp"
#include "inventory/inventory.hpp"
#include "inventory/spdx.hpp"
#include "inventory/versions.hpp"
#include "linux/spawn.hpp"

namespace caisson::inventory {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// ---- databases ---------------------------------------------------------------------------------------------------------

TEST(Dpkg, installed_packages_and_their_sources_are_read) {
  const auto packages = parse_dpkg_status(
      "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nSource: glibc\nVersion: 2.36-9\nDescription: GNU C\n long text: here\n .\n\n"
      "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\n"
      "Package: gcc-12-base\nStatus: hold ok installed\nArchitecture: amd64\nSource: gcc-12 (12.2.0-14)\nVersion: 12.2.0-14+b1\n");
  ASSERT_TRUE(packages.ok()) << packages.error().text();
  ASSERT_EQ(packages->size(), 2U);
  EXPECT_EQ(packages->at(0).source, "glibc");
  EXPECT_EQ(packages->at(0).source_version, "2.36-9");
  EXPECT_EQ(packages->at(1).name, "gcc-12-base");
  EXPECT_EQ(packages->at(1).source_version, "12.2.0-14");
}

TEST(Dpkg, damage_is_named_by_its_line) {
  EXPECT_THAT(parse_dpkg_status("Package: a\nStatus: install ok installed\n\n").error().text(), HasSubstr("before line 3"));
  EXPECT_THAT(parse_dpkg_status("no field\n").error().text(), HasSubstr("line 1"));
  EXPECT_THAT(*parse_dpkg_status(""), IsEmpty());
}

TEST(Apk, paragraphs_are_packages) {
  const auto packages = parse_apk_installed("C:Q1=\nP:libcrypto3\nV:3.3.1-r0\nA:x86_64\no:openssl\nL:Apache-2.0\nF:lib\nR:libcrypto.so.3\n\nP:musl\nV:1.2.5-r0\nA:x86_64\n");
  ASSERT_TRUE(packages.ok()) << packages.error().text();
  ASSERT_EQ(packages->size(), 2U);
  EXPECT_EQ(packages->at(0).source, "openssl");
  EXPECT_EQ(packages->at(0).license, "Apache-2.0");
  EXPECT_EQ(packages->at(1).source, "musl");
  EXPECT_THAT(parse_apk_installed("P:a\n\n").error().text(), HasSubstr("no V:"));
}

std::string big_endian(std::uint32_t value) {
  std::string out;
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> static_cast<unsigned>(shift) & 0xFFU);
  return out;
}

/// A header as rpm writes it: texts (type 6) and one number, the epoch.
std::string rpm_header(const std::vector<std::pair<std::uint32_t, std::string>>& texts, std::uint32_t epoch) {
  std::string index;
  std::string data = big_endian(epoch);
  index += big_endian(1003) + big_endian(4) + big_endian(0) + big_endian(1);
  for (const auto& [tag, text] : texts) {
    index += big_endian(tag) + big_endian(6) + big_endian(static_cast<std::uint32_t>(data.size())) + big_endian(1);
    data += text + std::string(1, '\0');
  }
  return big_endian(static_cast<std::uint32_t>(texts.size() + 1)) + big_endian(static_cast<std::uint32_t>(data.size())) + index + data;
}

TEST(Rpm, a_header_is_a_package) {
  const auto header = rpm_header({{1000, "bash"}, {1001, "5.2.26"}, {1002, "3.fc40"}, {1022, "x86_64"}, {1014, "GPL-3.0-or-later"}, {1044, "bash-5.2.26-3.fc40.src.rpm"}}, 2);
  const auto package = parse_rpm_header(header);
  ASSERT_TRUE(package.ok()) << package.error().text();
  EXPECT_EQ(package->version, "2:5.2.26-3.fc40");
  EXPECT_EQ(package->source, "bash");
  EXPECT_EQ(package->source_version, "5.2.26-3.fc40");
  EXPECT_EQ(package->architecture, "x86_64");
  for (std::size_t size = 0; size < header.size(); ++size) EXPECT_FALSE(parse_rpm_header(std::string_view(header).substr(0, size)).ok()) << size;
}

/// sqlite3's own hand makes the file: Debian's python3 is there in every place where the tests run.
std::string made_by_sqlite(const std::string& script) {
  const auto made = linux::run_program({"python3", "-c",
                                        "import sqlite3,sys,tempfile,os\n"
                                        "path=tempfile.mktemp()\n"
                                        "db=sqlite3.connect(path)\n" +
                                            script + "\ndb.commit(); db.close()\nsys.stdout.buffer.write(open(path,'rb').read()); os.unlink(path)\n"});
  EXPECT_TRUE(made.ok());
  EXPECT_EQ(made->standard_error, "");
  return made->standard_output;
}

TEST(Rpm, the_sqlite_database_is_read_over_many_pages_and_long_rows) {
  std::string script =
      "import struct\n"
      "def header(name, pad):\n"
      "  texts=[(1000,name),(1001,'1.0'),(1002,'1'),(1022,'noarch'),(1014,'x'*pad)]\n"
      "  index=b''; data=b''\n"
      "  for tag,text in texts:\n"
      "    index+=struct.pack('>IIII',tag,6,len(data),1); data+=text.encode()+b'\\0'\n"
      "  return struct.pack('>II',len(texts),len(data))+index+data\n"
      "db.execute('PRAGMA page_size=1024')\n"
      "db.execute('CREATE TABLE Other (a TEXT)')\n"
      "db.execute('CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)')\n"
      "for i in range(500): db.execute('INSERT INTO Packages(blob) VALUES (?)',(header('p%03d'%i, 20000 if i%50==0 else i),))\n"
      "db.execute('INSERT INTO Packages(blob) VALUES (?)',(header('gpg-pubkey',1),))\n";
  const auto file = made_by_sqlite(script);
  const auto packages = parse_rpm_database(file);
  ASSERT_TRUE(packages.ok()) << packages.error().text();
  ASSERT_EQ(packages->size(), 500U);
  EXPECT_EQ(packages->at(0).name, "p000");
  EXPECT_EQ(packages->at(0).license.size(), 20000U);
  EXPECT_EQ(packages->at(499).name, "p499");
  EXPECT_EQ(parse_rpm_database(made_by_sqlite("db.execute('CREATE TABLE a (b)')")).error().kind(), ErrorKind::not_found);
  EXPECT_FALSE(parse_rpm_database(std::string_view(file).substr(0, file.size() / 2)).ok());
  EXPECT_FALSE(parse_rpm_database("SQLite format 3").ok());
}

TEST(OsRelease, quotes_are_taken_off) {
  const auto out = parse_os_release("# c\nID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME='bookworm'\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nODD\n");
  EXPECT_EQ(out.id, "debian");
  EXPECT_EQ(out.version_id, "12");
  EXPECT_EQ(out.codename, "bookworm");
}

// ---- layers ------------------------------------------------------------------------------------------------------------

struct Member {
  std::string name;
  std::string contents;
  image::TarType type = image::TarType::file;
  std::string link;
};

LayerReport report_of(const std::vector<Member>& members) {
  std::string bytes;
  image::TarWriter tar([&](std::string_view piece) -> Status {
    bytes += piece;
    return {};
  });
  for (const auto& member : members) {
    image::TarEntry entry;
    entry.type = member.type;
    entry.name = member.name;
    entry.link_target = member.link;
    entry.mode = 0644;
    entry.size_bytes = member.contents.size();
    EXPECT_TRUE(tar.add(entry, member.contents).ok());
  }
  EXPECT_TRUE(tar.finish().ok());
  image::MemorySource source(bytes, 700);
  auto report = examine_layer(source);
  EXPECT_TRUE(report.ok());
  return std::move(*report);
}

std::string deb(const std::string& name, const std::string& version) { return "Package: " + name + "\nStatus: install ok installed\nArchitecture: amd64\nVersion: " + version + "\n\n"; }

Result<Inventory> stacked(const std::vector<LayerReport>& reports) {
  std::vector<Digest> layers;
  for (std::size_t i = 0; i < reports.size(); ++i) layers.push_back(sha256_of(concat(i)));
  return stack_layers(layers, reports);
}

/// "name version layer" of each.
std::vector<std::string> shown(const Result<Inventory>& inventory) {
  std::vector<std::string> out;
  if (!inventory.ok()) return {inventory.error().text()};
  for (const auto& item : inventory->packages) out.push_back(concat(item.package.name, " ", item.package.version, " ", item.layer));
  return out;
}

TEST(Layers, a_package_belongs_to_the_layer_that_installed_its_version) {
  const auto base = report_of({{"./var/lib/dpkg/status", deb("a", "1") + deb("b", "1") + deb("c", "1")}, {"/etc/os-release", "ID=debian\nVERSION_ID=12\n"}, {"usr/bin/x", "x"}});
  const auto nothing = report_of({{"srv/data", "x"}});
  const auto upgrade = report_of({{"var/lib/dpkg/status", deb("a", "1") + deb("b", "2") + deb("d", "1")}});
  const auto inventory = stacked({base, nothing, upgrade});
  EXPECT_THAT(shown(inventory), ElementsAre("a 1 0", "b 2 2", "d 1 2"));
  EXPECT_EQ(inventory->distribution.id, "debian");
  // Removed, and installed again as it was.
  EXPECT_THAT(shown(stacked({base, upgrade, base})), ElementsAre("a 1 0", "b 1 2", "c 1 2"));
}

TEST(Layers, whiteouts_opaque_folders_and_what_takes_a_folders_place_hide_databases) {
  const auto base = report_of({{"var/lib/dpkg/status", deb("a", "1")}, {"lib/apk/db/installed", "P:m\nV:1\n\n"}});
  const auto all = [&](const std::vector<Member>& members) { return shown(stacked({base, report_of(members)})); };
  EXPECT_THAT(all({}), ElementsAre("a 1 0", "m 1 0"));
  EXPECT_THAT(all({{"var/lib/dpkg/.wh.status", ""}}), ElementsAre("m 1 0"));
  EXPECT_THAT(all({{"var/.wh.lib", ""}}), ElementsAre("m 1 0"));
  EXPECT_THAT(all({{".wh.var", ""}}), ElementsAre("m 1 0"));
  EXPECT_THAT(all({{".wh.variable", ""}}), ElementsAre("a 1 0", "m 1 0"));
  EXPECT_THAT(all({{"var/lib/.wh..wh..opq", ""}}), ElementsAre("m 1 0"));
  EXPECT_THAT(all({{".wh..wh..opq", ""}}), IsEmpty());
  EXPECT_THAT(all({{"lib", "", image::TarType::symlink, "usr/lib"}}), ElementsAre("a 1 0"));
  // A folder is opaque for what lies below this layer, not for what it brings itself, whatever comes first.
  EXPECT_THAT(all({{"var/lib/dpkg/status", deb("n", "1")}, {"var/lib/dpkg/.wh..wh..opq", ""}}), ElementsAre("n 1 1", "m 1 0"));
}

TEST(Layers, distroless_images_have_a_file_per_package) {
  const auto base = report_of({{"var/lib/dpkg/status.d/tzdata", "Package: tzdata\nVersion: 1\n"}, {"var/lib/dpkg/status.d/tzdata.md5sums", "ff  x\n"}, {"var/lib/dpkg/status.d/base", "Package: base\nVersion: 2\n"}});
  const auto less = report_of({{"var/lib/dpkg/status.d/.wh.base", ""}});
  EXPECT_THAT(shown(stacked({base, less})), ElementsAre("tzdata 1 0"));
}

TEST(Layers, what_counts_and_cannot_be_read_is_refused_with_its_reason) {
  const auto old = report_of({{"var/lib/rpm/Packages", "bdb"}});
  EXPECT_THAT(stacked({old}).error().text(), HasSubstr("Berkeley DB"));
  EXPECT_EQ(stacked({old}).error().kind(), ErrorKind::unsupported);
  EXPECT_THAT(shown(stacked({old, report_of({{"var/lib/.wh.rpm", ""}})})), IsEmpty());
  const auto damaged = report_of({{"var/lib/dpkg/status", "no field\n"}});
  EXPECT_EQ(stacked({damaged}).error().kind(), ErrorKind::corrupt);
  EXPECT_THAT(shown(stacked({damaged, report_of({{"var/lib/dpkg/status", deb("a", "1")}})})), ElementsAre("a 1 1"));
}

TEST(Spdx, the_document_is_the_same_every_time_and_names_layers) {
  const auto inventory = stacked({report_of({{"var/lib/dpkg/status", deb("libstdc++6", "1:12.2-14")}, {"etc/os-release", "ID=debian\nVERSION_ID=12\n"}})});
  ASSERT_TRUE(inventory.ok());
  SpdxSubject subject;
  subject.name = "localhost:5000/app:1";
  subject.digest = sha256_of("manifest");
  subject.platform_architecture = "amd64";
  subject.created = *parse_rfc3339("2024-05-06T07:08:09.5Z");
  const auto text = write_spdx(*inventory, subject);
  EXPECT_EQ(text, write_spdx(*inventory, subject));
  const auto document = parse_json(text, "spdx");
  ASSERT_TRUE(document.ok());
  const auto& object = document->as_object();
  EXPECT_EQ(object.at("spdxVersion"), "SPDX-2.3");
  EXPECT_EQ(object.at("creationInfo").as_object().at("created"), "2024-05-06T07:08:09Z");
  ASSERT_EQ(object.at("packages").as_array().size(), 3U);
  const auto& package = object.at("packages").as_array()[2].as_object();
  EXPECT_THAT(std::string(package.at("sourceInfo").as_string()), HasSubstr("layer 1 of 1, sha256:"));
  EXPECT_EQ(package.at("externalRefs").as_array()[0].as_object().at("referenceLocator"), "pkg:deb/debian/libstdc%2B%2B6@1:12.2-14?arch=amd64&distro=debian-12");
  EXPECT_EQ(object.at("relationships").as_array().size(), 3U);
}

// ---- versions ----------------------------------------------------------------------------------------------------------

TEST(Versions, debs_are_ordered_as_dpkg_orders_them) {
  if (!linux::run_program({"dpkg", "--version"}).ok()) GTEST_SKIP() << "needs dpkg as the judge";
  std::mt19937 random(20240501);
  const std::vector<std::string> pieces = {"0", "1", "9", "10", "007", ".", "+", "~", "~~", "-", "a", "b", "rc", "A", "+b1", "~bpo", "dfsg", "1.0", ":1"};
  auto version = [&] {
    std::string out = concat(random() % 20);
    if (random() % 4 == 0) out = concat(random() % 3, ":", out);
    const auto count = random() % 6;
    for (std::size_t i = 0; i < count; ++i) {
      const auto& piece = pieces[random() % pieces.size()];
      if (piece[0] != ':' || out.find(':') != std::string::npos) out += piece;  // a colon needs an epoch in front
    }
    if (out.back() == '-') out += "1";
    return out;
  };
  std::string script;
  std::vector<std::pair<std::string, std::string>> pairs;
  for (int i = 0; i < 600; ++i) {
    auto a = version();
    auto b = random() % 5 == 0 ? a + (random() % 2 == 0 ? "~" : "+0") : version();
    script += concat("if dpkg --compare-versions '", a, "' lt '", b, "'; then echo -1; elif dpkg --compare-versions '", a, "' eq '", b, "'; then echo 0; else echo 1; fi\n");
    pairs.emplace_back(std::move(a), std::move(b));
  }
  linux::RunOptions options;
  options.standard_input = script;
  const auto judged = linux::run_program({"sh", "-s"}, options);
  ASSERT_TRUE(judged.ok());
  const auto lines = split(judged->standard_output, '\n');
  ASSERT_GE(lines.size(), pairs.size());
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const auto& [a, b] = pairs[i];
    EXPECT_EQ(concat(compare_deb_versions(a, b)), lines[i]) << a << " and " << b;
    EXPECT_EQ(compare_deb_versions(a, b), -compare_deb_versions(b, a)) << a << " and " << b;
  }
}

struct Order {
  const char* a;
  char sign;
  const char* b;
};

void check_order(PackageKind kind, std::initializer_list<Order> cases) {
  for (const auto& [a, sign, b] : cases) {
    const int expected = sign == '<' ? -1 : sign == '>' ? 1 : 0;
    EXPECT_EQ(compare_versions(kind, a, b), expected) << a << " " << sign << " " << b;
    EXPECT_EQ(compare_versions(kind, b, a), -expected) << b << " against " << a;
  }
}

TEST(Versions, apks_are_ordered_by_suffixes_letters_and_revisions) {
  check_order(PackageKind::apk, {{"1.2.3", '=', "1.2.3"}, {"1.2.3", '<', "1.2.10"}, {"1.2.3-r1", '<', "1.2.3-r10"}, {"1.2.3_rc1", '<', "1.2.3"}, {"1.2.3_alpha", '<', "1.2.3_beta"},
                                 {"1.2.3_p1", '>', "1.2.3"}, {"1.2.3_git20240101", '>', "1.2.3"}, {"1.2.3a", '>', "1.2.3"}, {"1.2.3a", '<', "1.2.3b"}, {"1.0", '<', "1.0.1"},
                                 {"2.34", '>', "0.1.0_alpha"}, {"1.2.3_pre2", '<', "1.2.3_rc1"}, {"1.05", '<', "1.1"}, {"1.05", '>', "1.0"}, {"1.010", '>', "1.09"}, {"1.005", '<', "1.05"},
                                 {"3.3.1-r0", '>', "3.3.1_rc2-r5"}, {"1.2.3-r0", '>', "1.2.3"}, {"20240101", '>', "9999.9"}, {"1.2a-r1", '<', "1.2b-r0"}});
}

TEST(Versions, rpms_are_ordered_as_rpmvercmp_does) {
  check_order(PackageKind::rpm, {{"1.0", '=', "1.0"}, {"1.0", '<', "2.0"}, {"2.0.1", '>', "2.0"}, {"2.0.1a", '>', "2.0.1"}, {"5.5p1", '<', "5.5p2"}, {"5.5p10", '>', "5.5p1"},
                                 {"10xyz", '<', "10.1xyz"}, {"xyz10", '<', "xyz10.1"}, {"xyz.4", '<', "8"}, {"5.5p2", '<', "5.6p1"}, {"6.0.rc1", '>', "6.0"}, {"10b2", '>', "10a1"},
                                 {"1.0aa", '>', "1.0a"}, {"10.0001", '=', "10.1"}, {"10.0001", '<', "10.0039"}, {"4.999.9", '<', "5.0"}, {"20101121", '=', "20101121"}, {"2_0", '=', "2.0"},
                                 {"a", '=', "a"}, {"a+", '=', "a_"}, {"1.0~rc1", '<', "1.0"}, {"1.0~rc1", '<', "1.0~rc2"}, {"1.0~rc1~git123", '<', "1.0~rc1"}, {"1.0^", '>', "1.0"},
                                 {"1.0^git1", '<', "1.0^git2"}, {"1.0^git1", '<', "1.01"}, {"1.0^20160101", '<', "1.0.1"}, {"1.0^20160102", '>', "1.0^20160101^git1"},
                                 {"1.0~rc1^git1", '>', "1.0~rc1"}, {"1:1.0", '>', "2.0"}, {"1.0-1", '<', "1.0-2"}, {"1.0-1", '=', "1.0"}, {"0:1.0-1", '=', "1.0-1"}});
}

// ---- advisories --------------------------------------------------------------------------------------------------------

ScanQuestion debian_question() {
  ScanQuestion out;
  out.distribution = {"debian", "12", "bookworm", ""};
  out.packages.push_back({PackageKind::deb, "libssl3", "3.0.11-1~deb12u2", "amd64", "openssl", "3.0.11-1~deb12u2", "", ""});
  out.packages.push_back({PackageKind::deb, "zlib1g", "1:1.2.13.dfsg-1", "amd64", "zlib", "1:1.2.13.dfsg-1", "", ""});
  return out;
}

/// "id severity package fixed" of each.
std::vector<std::string> told(const Result<std::vector<Finding>>& findings) {
  if (!findings.ok()) return {findings.error().text()};
  std::vector<std::string> out;
  for (const auto& finding : *findings) out.push_back(concat(finding.id, " ", to_string(finding.severity), " ", finding.package, " ", finding.fixed_version));
  return out;
}

constexpr const char* osv_record =
    R"({"id":"DSA-1","aliases":["CVE-2024-1"],"summary":"openssl","severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],"affected":[)"
    R"({"package":{"ecosystem":"Debian:11","name":"openssl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}]},)"
    R"({"package":{"ecosystem":"Debian:12","name":"openssl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"3.0.13-1~deb12u1"}]}]}]})";

TEST(Osv, a_record_matches_by_release_source_and_range) {
  EXPECT_THAT(told(find_faults(osv_record, debian_question())), ElementsAre("DSA-1 critical 0 3.0.13-1~deb12u1"));
  EXPECT_THAT(told(find_faults(concat("[", osv_record, ",", osv_record, "]"), debian_question())), ElementsAre("DSA-1 critical 0 3.0.13-1~deb12u1"));
  EXPECT_THAT(told(find_faults(concat(R"({"vulns":[)", osv_record, "]}"), debian_question())), ElementsAre("DSA-1 critical 0 3.0.13-1~deb12u1"));
  auto mended = debian_question();
  mended.packages[0].source_version = "3.0.13-1~deb12u1";
  EXPECT_THAT(told(find_faults(osv_record, mended)), IsEmpty());
  auto other = debian_question();
  other.distribution.version_id = "13";
  EXPECT_THAT(told(find_faults(osv_record, other)), IsEmpty());
}

TEST(Osv, ranges_open_and_close_and_single_versions_count) {
  auto question = debian_question();
  auto matches = [&](std::string_view version, std::string_view affected) {
    question.packages.resize(1);
    question.packages[0].source_version = version;
    return !find_faults(concat(R"({"id":"X","affected":[{"package":{"ecosystem":"Debian","name":"openssl"},)", affected, "}]}"), question)->empty();
  };
  constexpr const char* twice = R"("ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"1"},{"fixed":"2"},{"introduced":"3"},{"last_affected":"4"}]}])";
  EXPECT_FALSE(matches("0.9", twice));
  EXPECT_TRUE(matches("1", twice));
  EXPECT_FALSE(matches("2", twice));
  EXPECT_TRUE(matches("4", twice));
  EXPECT_FALSE(matches("4.1", twice));
  constexpr const char* unsorted = R"("ranges":[{"type":"ECOSYSTEM","events":[{"fixed":"2"},{"introduced":"0"}]}])";
  EXPECT_TRUE(matches("1", unsorted));
  EXPECT_FALSE(matches("3", unsorted));
  EXPECT_TRUE(matches("7", R"("versions":["6","7"])"));
  EXPECT_FALSE(matches("5", R"("versions":["6","7"])"));
}

TEST(Osv, ecosystems_are_read_as_their_makers_write_them) {
  auto matches = [](std::string_view ecosystem, const Distribution& distribution, PackageKind kind) {
    ScanQuestion question;
    question.distribution = distribution;
    question.packages.push_back({kind, "p", "1", "", "p", "1", "", ""});
    return !find_faults(concat(R"({"id":"X","affected":[{"package":{"ecosystem":")", ecosystem, R"(","name":"p"},"versions":["1"]}]})"), question)->empty();
  };
  EXPECT_TRUE(matches("Alpine:v3.20", {"alpine", "3.20.3", "", ""}, PackageKind::apk));
  EXPECT_FALSE(matches("Alpine:v3.2", {"alpine", "3.20.3", "", ""}, PackageKind::apk));
  EXPECT_TRUE(matches("Ubuntu:22.04:LTS", {"ubuntu", "22.04", "jammy", ""}, PackageKind::deb));
  EXPECT_TRUE(matches("Ubuntu:Pro:18.04:LTS", {"ubuntu", "18.04", "bionic", ""}, PackageKind::deb));
  EXPECT_TRUE(matches("Rocky Linux:9", {"rocky", "9.4", "", ""}, PackageKind::rpm));
  EXPECT_FALSE(matches("PyPI", {"debian", "12", "", ""}, PackageKind::deb));
}

TEST(Osv, a_zip_is_read_member_by_member) {
  // Stored and deflated members, as Python's zipfile writes them.
  const auto made = linux::run_program({"python3", "-c",
                                        concat("import zipfile,sys,io\nout=io.BytesIO()\nz=zipfile.ZipFile(out,'w')\nr='''", osv_record,
                                               "'''\nz.writestr('a/DSA-1.json',r,zipfile.ZIP_DEFLATED)\nz.writestr('DSA-2.json',r.replace('DSA-1','DSA-2'),zipfile.ZIP_STORED)\n"
                                               "z.writestr('README','x')\nz.close()\nsys.stdout.buffer.write(out.getvalue())")});
  ASSERT_TRUE(made.ok());
  const auto& zip = made->standard_output;
  EXPECT_THAT(told(find_faults(zip, debian_question())), ElementsAre("DSA-1 critical 0 3.0.13-1~deb12u1", "DSA-2 critical 0 3.0.13-1~deb12u1"));
  auto fedora = debian_question();
  fedora.distribution = {"fedora", "40", "", ""};
  EXPECT_THAT(find_faults(zip, fedora).error().text(), HasSubstr("say nothing about \"fedora\" 40"));
  EXPECT_FALSE(find_faults(std::string_view(zip).substr(0, zip.size() - 30), debian_question()).ok());
  auto damaged = zip;
  damaged[60] = static_cast<char>(damaged[60] ^ 0x55);
  EXPECT_FALSE(find_faults(damaged, debian_question()).ok());
}

TEST(Cvss, scores_become_severities) {
  EXPECT_EQ(severity_of_cvss("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"), Severity::critical);  // 9.8
  EXPECT_EQ(severity_of_cvss("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"), Severity::high);      // 7.5
  EXPECT_EQ(severity_of_cvss("CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N"), Severity::medium);    // 6.1
  EXPECT_EQ(severity_of_cvss("CVSS:3.1/AV:L/AC:H/PR:L/UI:N/S:U/C:L/I:N/A:N"), Severity::low);       // 2.5
  EXPECT_EQ(severity_of_cvss("CVSS:3.1/AV:L/AC:H/PR:L/UI:N/S:U/C:N/I:N/A:N"), Severity::negligible);
  for (const char* text : {"", "CVSS:3.1", "CVSS:4.0/AV:N", "CVSS:3.1/AV:X/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}) EXPECT_EQ(severity_of_cvss(text), Severity::unknown) << text;
}

TEST(DebianTracker, status_and_fixed_version_decide) {
  constexpr const char* tracker =
      R"({"openssl":{"CVE-1":{"description":"one","releases":{"bookworm":{"status":"resolved","fixed_version":"3.0.13-1","urgency":"high**"}}},)"
      R"("CVE-2":{"releases":{"bookworm":{"status":"resolved","fixed_version":"0","urgency":"low"}}},)"
      R"("CVE-3":{"releases":{"bookworm":{"status":"open","urgency":"unimportant"},"sid":{"status":"open","urgency":"high"}}},)"
      R"("CVE-4":{"releases":{"sid":{"status":"open"}}}, "CVE-5":{"releases":{"bookworm":{"status":"resolved","fixed_version":"3.0.11-1~deb12u2"}}}},)"
      R"("other":{"CVE-9":"not even looked at"}, "zlib" : {"CVE-6":{"releases":{"bookworm":{"status":"undetermined","urgency":"not yet assigned"}}}}})";
  EXPECT_THAT(told(find_faults(tracker, debian_question())), ElementsAre("CVE-1 high 0 3.0.13-1", "CVE-3 negligible 0 ", "CVE-6 unknown 1 "));
  auto alpine = debian_question();
  alpine.distribution.id = "alpine";
  EXPECT_EQ(find_faults(tracker, alpine).error().kind(), ErrorKind::unsupported);
  auto unknown = debian_question();
  unknown.distribution.codename = "hamm";
  EXPECT_THAT(find_faults(tracker, unknown).error().text(), HasSubstr("say nothing about Debian's release \"hamm\""));
  auto nameless = debian_question();
  nameless.distribution.codename.clear();
  EXPECT_EQ(find_faults(tracker, nameless)->size(), 3U);
  nameless.distribution.version_id.clear();
  EXPECT_THAT(find_faults(tracker, nameless).error().hint(), HasSubstr("--release"));
}

TEST(Debsecan, versions_mended_elsewhere_are_not_vulnerable) {
  const std::string list =
      "VERSION 1\nCVE-1,,one\nCVE-2,,two, with a comma\n\n"
      "openssl,0,SH F,3.1.0-1,3.0.13-1~deb12u1\nopenssl,1,SM?F,3.1.0-1,3.0.11-1~deb12u2\nzlib1g,1,BL  ,,1:1.2.13.dfsg-2\nlibssl3,0,BH  ,3.0.1-1,\n\nopenssl,libssl3 openssl\n";
  EXPECT_THAT(told(find_faults(list, debian_question())), ElementsAre("CVE-1 high 0 3.0.13-1~deb12u1", "CVE-2 low 1 1:1.2.13.dfsg-2"));
  EXPECT_FALSE(find_faults("VERSION 2\n", debian_question()).ok());
  EXPECT_THAT(find_faults("VERSION 1\nCVE-1,,x\n\nopenssl,7,SH F,1,\n\n", debian_question()).error().text(), HasSubstr("no line about a package"));
}

TEST(Advisories, what_is_of_no_known_kind_is_refused) {
  for (const char* text : {"", "hello", "{", "[", "[1]", R"({"id":1})", "PK\x03\x04"}) EXPECT_FALSE(find_faults(text, debian_question()).ok()) << text;
}

}  // namespace
}  // namespace caisson::inventory
