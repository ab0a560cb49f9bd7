#!/usr/bin/env python3
"""The rows of test_distribution.py against our registry server with its blobs in a bucket: to clients it makes no difference."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

import caisson  # noqa: E402
import registries  # noqa: E402
import s3_server  # noqa: E402
import test_distribution  # noqa: E402


def why_not():
    return registries.CaissonRegistry.why_not() or registries.why_not_fetch()


class InBucket:
    """For a class of rows."""

    @classmethod
    def new_registry(cls):
        cls.s3 = s3_server.S3(cls.namespace)
        try:
            return registries.CaissonRegistry(cls.namespace, config=cls.s3.config())
        except BaseException:
            cls.s3.close()
            raise

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.s3.close()
        if cls.s3.refused:
            raise AssertionError(f"requests that were not signed as they should be: {cls.s3.refused}")


class Pull(InBucket, test_distribution.Pull):
    pass


class Push(InBucket, test_distribution.Push):
    pass


class Discover(InBucket, test_distribution.Discover):
    pass


class Manage(InBucket, test_distribution.Manage):
    pass


if __name__ == "__main__":
    caisson.main(why_not)
