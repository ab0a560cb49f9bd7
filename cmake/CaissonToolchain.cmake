# Compiler flags, libraries and the optional ccache, for every target.
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  # Relative to the clone, so that another clone (CI's, a worktree's) finds what this one compiled.
  set(shared_ccache ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${CCACHE_PROGRAM})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${shared_ccache})
  set(CMAKE_C_COMPILER_LAUNCHER ${shared_ccache})
endif()

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
set(OPENSSL_USE_STATIC_LIBS ${CAISSON_STATIC})
find_package(OpenSSL REQUIRED)
if(CAISSON_STATIC)
  set(Boost_USE_STATIC_LIBS ON)
  set(ZLIB_USE_STATIC_LIBS ON)
  set(CMAKE_FIND_LIBRARY_SUFFIXES .a)  # FindSQLite3 and pkg-config targets have no switch of their own
endif()
# Always the shared library, also beside static programs: Debian's libcurl.a needs libraries that have no static form. Only
# caisson-fetch uses it, so a build without it can do everything but reach registries.
find_path(CURL_INCLUDE_DIR curl/curl.h)
set(kept_suffixes ${CMAKE_FIND_LIBRARY_SUFFIXES})
set(CMAKE_FIND_LIBRARY_SUFFIXES .so .so.4)
find_library(CURL_LIBRARY NAMES curl)
set(CMAKE_FIND_LIBRARY_SUFFIXES ${kept_suffixes})
if(CURL_LIBRARY AND CURL_INCLUDE_DIR)
  add_library(caisson_curl INTERFACE)
  target_link_libraries(caisson_curl INTERFACE ${CURL_LIBRARY})
  target_include_directories(caisson_curl SYSTEM INTERFACE ${CURL_INCLUDE_DIR})
else()
  message(WARNING "libcurl is missing (libcurl4-openssl-dev): caisson-fetch is not built, so images cannot be pulled or pushed")
endif()
find_package(Boost 1.81 REQUIRED COMPONENTS json)
find_package(SQLite3 REQUIRED)
find_package(ZLIB REQUIRED)
find_library(CRYPT_LIBRARY NAMES crypt REQUIRED)  # libxcrypt: the bcrypt of htpasswd files
find_package(BZip2 REQUIRED)
find_package(LibLZMA REQUIRED)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(DEFLATE REQUIRED IMPORTED_TARGET libdeflate)

add_library(caisson_flags INTERFACE)
target_compile_options(caisson_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wnon-virtual-dtor -Woverloaded-virtual
  -Wno-missing-field-initializers    # designated initialisers leave the rest at their defaults on purpose
  -fstack-protector-strong -fno-strict-aliasing -ffunction-sections -fdata-sections)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_compile_options(caisson_flags INTERFACE -Wno-gnu-statement-expression)  # TRY
else()
  target_compile_options(caisson_flags INTERFACE -fstack-clash-protection)
  if(CMAKE_BUILD_TYPE STREQUAL "Release")
    # g++ 12 at -O2 sees uninitialised strings in moved std::variants; valgrind and ASan do not.
    target_compile_options(caisson_flags INTERFACE -Wno-maybe-uninitialized)
  endif()
endif()
if(CAISSON_WERROR)
  target_compile_options(caisson_flags INTERFACE -Werror)
endif()
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  target_compile_options(caisson_flags INTERFACE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
endif()
target_compile_definitions(caisson_flags INTERFACE _GNU_SOURCE CAISSON_VERSION="${PROJECT_VERSION}")
if(CAISSON_FAULTS)
  target_compile_definitions(caisson_flags INTERFACE CAISSON_FAULTS)
endif()
target_include_directories(caisson_flags INTERFACE ${CMAKE_SOURCE_DIR}/src)
# lld links in a quarter of bfd's time and memory; it is used for builds whose size nobody ships.
find_program(LLD_PROGRAM ld.lld)
if(LLD_PROGRAM AND NOT CMAKE_BUILD_TYPE STREQUAL "Release")
  target_link_options(caisson_flags INTERFACE -fuse-ld=lld)
endif()
target_link_options(caisson_flags INTERFACE -Wl,--gc-sections -Wl,-z,relro,-z,now)
target_link_libraries(caisson_flags INTERFACE Threads::Threads)
