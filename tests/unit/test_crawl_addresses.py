"""Where a crawl may connect to."""

import httpcore
import pytest

from engine.errors import AddressRefused, ConfigurationError
from rag.crawl.addresses import PinnedBackend, Resolver, is_private_literal, is_public, override


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("194.94.240.1", True),
        ("2a00:1450:4001:81b::2003", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("172.16.5.4", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:194.94.240.1", True),
        ("64:ff9b::a00:1", False),
        ("64:ff9b::c25e:f001", True),
        ("2002:a00:1::1", False),
    ],
)
def test_only_addresses_of_the_open_internet_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_a_private_host_is_seen_by_its_name() -> None:
    assert is_private_literal("localhost") and is_private_literal("x.localhost") and is_private_literal("10.0.0.1")
    assert not is_private_literal("thi.de")


@pytest.mark.parametrize(
    ("text", "host", "expected"),
    [
        ("thi.de:443:127.0.0.1", "thi.de", ("127.0.0.1", 443)),
        ("thi.de:443:127.0.0.1:8443", "thi.de", ("127.0.0.1", 8443)),
        ("*.thi.de:443:[::1]:8443", "bib.thi.de", ("::1", 8443)),
        ("thi.de:443:[::1]", "thi.de", ("::1", 443)),
    ],
)
async def test_an_override_says_where_a_host_is(text: str, host: str, expected: tuple[str, int]) -> None:
    assert await Resolver([override(text)]).resolve(host, 443) == [expected]


@pytest.mark.parametrize("text", ["thi.de", "thi.de:443", "thi.de:x:127.0.0.1", "thi.de:443:localhost"])
def test_an_override_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="HOST:PORT:ADDRESS"):
        override(text)


async def one_private(host: str, port: int) -> list[str]:
    return ["194.94.240.1", "10.0.0.1"]


async def test_a_name_with_a_private_address_among_its_own_is_refused() -> None:
    with pytest.raises(AddressRefused, match=r"thi\.de has the private address 10\.0\.0\.1"):
        await Resolver(look_up=one_private).resolve("thi.de", 443)


async def test_private_addresses_can_be_allowed() -> None:
    found = await Resolver(allow_private=True, look_up=one_private).resolve("thi.de", 443)
    assert found == [("194.94.240.1", 443), ("10.0.0.1", 443)]


async def test_a_name_that_turns_private_after_the_check_is_not_asked_again() -> None:
    # given a name whose second answer is private, as in DNS rebinding
    answers = [["194.94.240.1"], ["127.0.0.1"]]

    async def rebinding(host: str, port: int) -> list[str]:
        return answers.pop(0)

    resolver = Resolver(look_up=rebinding)
    # when it is resolved to be checked, and again to connect
    first, second = await resolver.resolve("thi.de", 443), await resolver.resolve("thi.de", 443)
    # then both are the address that was checked
    assert first == second == [("194.94.240.1", 443)]


async def test_a_connection_to_a_private_address_is_not_opened() -> None:
    async def loopback(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    with pytest.raises(AddressRefused):
        await PinnedBackend(Resolver(look_up=loopback)).connect_tcp("thi.de", 443)


async def test_a_name_without_an_address_is_a_failed_connection() -> None:
    async def unknown(host: str, port: int) -> list[str]:
        raise OSError(-2, "Name or service not known")

    with pytest.raises(httpcore.ConnectError, match="has no address"):
        await Resolver(look_up=unknown).resolve("gibt-es-nicht.example", 443)
