"""Which hosts and buckets the rules let through, in every spelling, and what is connected to."""

import ipaddress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.settings.load import SettingsError, effective, load
from providers.address import parse_address
from providers.allow import Allow, HostPattern, host_pattern, literal
from providers.errors import NotAllowed
from tests.support.require import possible


def rules(*hosts: str, loopback: bool = True, plain_http: bool = True) -> Allow:
    return Allow(tuple(map(host_pattern, hosts or ["*"])), loopback=loopback, plain_http=plain_http)


def allows(allow: Allow, url: str, *, by_proxy: bool = False) -> bool:
    """As far as it can be known without resolving a name."""
    try:
        allow.check_url(parse_address(url), resolved_by_proxy=by_proxy)
    except NotAllowed:
        return False
    return True


def allows_address(allow: Allow, host: str, address: str) -> bool:
    try:
        allow.check_address(host, address)
    except NotAllowed:
        return False
    return True


METADATA = [
    "169.254.169.254",
    "169.254.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "2852039166",  # 169.254.169.254 as one number
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "0xa9.254.0251.254",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[fd00:ec2::254]",
    "[fd20:ce::254]",
    "\uff11\uff16\uff19.254.169.254",  # full-width digits, which IDNA turns into ASCII
    "169.254.169.254.",
]


@pytest.mark.parametrize("host", METADATA)
@pytest.mark.parametrize("by_proxy", [False, True])
def test_link_local_and_metadata_addresses_are_refused_by_default(host: str, by_proxy: bool) -> None:
    assert not allows(Allow(), f"http://{host}/latest/meta-data/", by_proxy=by_proxy)


def test_a_metadata_address_can_be_listed_but_only_by_its_own_network() -> None:
    url = "http://169.254.169.254/"
    assert allows(rules("*", "169.254.169.254"), url)
    assert allows(rules("169.254.0.0/16"), url)
    assert not allows(rules("*"), url)
    assert not allows_address(rules("*", "*.internal"), "metadata.google.internal", "169.254.169.254")


LOOPBACK = [
    "127.0.0.1",
    "127.1",
    "127.8.9.10",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "0",
    "0.0.0.0",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
]


@pytest.mark.parametrize("host", LOOPBACK)
@pytest.mark.parametrize("by_proxy", [False, True])
def test_loopback_is_allowed_until_it_is_switched_off(host: str, by_proxy: bool) -> None:
    url = f"https://{host}:9000/"
    assert allows(rules(), url, by_proxy=by_proxy)
    assert not allows(rules(loopback=False), url, by_proxy=by_proxy)
    assert not allows(rules("127.0.0.0/8", "::1", "0.0.0.0/8", loopback=False), url), "the switch wins"


def test_a_proxy_is_not_asked_for_its_own_loopback_by_name() -> None:
    for name in ("localhost", "LOCALHOST.", "a.localhost"):
        assert not allows(rules(loopback=False), f"http://{name}/", by_proxy=True)


def test_plain_http_can_be_switched_off() -> None:
    assert allows(rules(), "http://host/")
    assert not allows(rules(plain_http=False), "http://host/")
    assert allows(rules(plain_http=False), "https://host/")


@pytest.mark.parametrize(
    "host", ["169.254.169.254\\x", "169.254.169%2e254", "a,b", "a;b", "a'b", "[169.254.169.254", "x%00"]
)
def test_what_another_program_might_read_as_another_host_is_no_address(host: str) -> None:
    with pytest.raises(ValueError, match=r"host|IPv6"):
        parse_address(f"http://{host}/")


@pytest.mark.parametrize(
    ("patterns", "host", "allowed"),
    [
        (["backup.example"], "backup.example", True),
        (["backup.example"], "BACKUP.Example.", True),
        (["backup.example"], "evil-backup.example", False),
        (["backup.example"], "backup.example.evil.test", False),
        (["*.example"], "a.b.example", True),
        (["*.example"], "example", False),
        (["*.example"], "notexample", False),
        (["b\u00fccher.example"], "xn--bcher-kva.example", True),
        (["xn--bcher-kva.example"], "b\u00fccher.example", True),
        (["10.0.0.0/8"], "10.1.2.3", True),
        (["10.0.0.0/8"], "11.1.2.3", False),
        (["10.0.0.0/8"], "[::ffff:10.1.2.3]", True),
        (["192.168.7.7"], "3232237319", True),
        (["fd00::/8"], "[fd12::1]", True),
        (["*.example"], "10.1.2.3", False),
        ([], "anything.example", True),
    ],
)
def test_names_and_networks(patterns: list[str], host: str, allowed: bool) -> None:
    for by_proxy in (False, True):
        assert allows(rules(*patterns), f"https://{host}/", by_proxy=by_proxy) is allowed


def test_an_empty_list_allows_nothing() -> None:
    assert not allows(Allow(hosts=()), "https://backup.example/")
    assert not allows_address(Allow(hosts=()), "backup.example", "192.0.2.1")


def test_a_name_may_be_allowed_by_the_address_that_it_turns_out_to_have() -> None:
    allow = rules("10.0.0.0/8")
    assert allows(allow, "https://nas.local/"), "not known yet"
    assert not allows(allow, "https://nas.local/", by_proxy=True), "and never will be"
    assert allows_address(allow, "nas.local", "10.0.0.9")
    assert not allows_address(allow, "nas.local", "192.0.2.9")


@pytest.mark.parametrize(
    "text", ["", " ", "10.*", "a.*", "*.*", "10.0.0.1/8", "0x7f.1", "1.2.3", "a b", "a/b", "[::1]"]
)
def test_what_is_no_pattern_is_refused(text: str) -> None:
    """A pattern such as `10.*` looks like a network and would be a name that anybody can register."""
    with pytest.raises(ValueError, match="neither a host nor a network"):
        host_pattern(text)


@given(st.ip_addresses())
def test_every_address_is_judged_alike_in_a_url_and_when_resolved(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    shown = f"[{address}]" if address.version == 6 else str(address)
    for allow in (rules(loopback=False), rules("10.0.0.0/8", "fd00::/8")):
        assert allows(allow, f"https://{shown}/") is allows_address(allow, "name.example", str(address))


@given(st.integers(0, 2**32 - 1), st.data())
def test_no_spelling_of_an_address_is_taken_for_a_name(number: int, data: st.DataObject) -> None:
    """Whatever the C library would connect to is known beforehand (inet_aton(3))."""
    write = st.sampled_from(["{}", "0x{:x}", "0{:o}"])
    cuts = data.draw(st.sampled_from([(), (24,), (24, 16), (24, 16, 8)]))
    parts, rest = [], number
    for cut in cuts:
        parts.append(rest >> cut)
        rest &= (1 << cut) - 1
    spelled = ".".join(data.draw(write).format(part) for part in [*parts, rest])
    assert literal(spelled) == ipaddress.IPv4Address(number)


@given(st.text(max_size=30))
def test_any_text_is_a_pattern_or_a_value_error(text: str) -> None:
    try:
        pattern: HostPattern = host_pattern(text)
    except ValueError:
        return
    assert host_pattern(str(pattern)) == pattern


def test_buckets() -> None:
    allow = Allow(buckets=("backups", "site-*"))
    for bucket, allowed in (("backups", True), ("site-7", True), ("backups2", False), ("other", False)):
        if allowed:
            allow.check_bucket(bucket)
        else:
            with pytest.raises(NotAllowed, match=r"allow\.buckets"):
                allow.check_bucket(bucket)
    Allow().check_bucket("any", parse_address("https://minio.example/path"))


def test_an_endpoint_cannot_bring_a_bucket_of_its_own() -> None:
    """`https://store/other` and the bucket `backups` would be the bucket `other` to the store."""
    allow = Allow(buckets=("backups",))
    allow.check_bucket("backups", parse_address("https://store.example"))
    with pytest.raises(NotAllowed, match="path"):
        allow.check_bucket("backups", parse_address("https://store.example/other"))


# The settings


def test_the_lists_may_be_texts_or_lists() -> None:
    settings = load(
        {"allow.hosts": "*.example, 10.0.0.0/8"}, None, {"EDGE_BACKUP_ALLOW__OPERATIONS": "backup"}
    ).settings
    assert settings.allow.hosts == ("*.example", ipaddress.ip_network("10.0.0.0/8"))
    assert settings.allow.operations == ("backup",)
    assert effective(settings)["allow.hosts"] == "*.example,10.0.0.0/8"
    assert load({"allow.hosts": ""}, None, {}).settings.allow.hosts == (), "empty allows nothing"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("allow.operations", "backup,restroe"),
        ("allow.hosts", "10.*"),
        ("allow.buckets", "UPPER"),
        ("allow.hosts", "a,,b"),
    ],
)
def test_a_slip_in_a_list_ends_the_start(key: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{key}: expected"):
        load({key: value}, None, {})


def own_addresses() -> list[str]:
    """Those of all interfaces but loopback, as the kernel lists them (proc(5))."""
    lines = Path("/proc/net/fib_trie").read_text().splitlines()
    local = {above.split()[-1] for above, line in pairwise(lines) if line.endswith("/32 host LOCAL")}
    six = [
        (line.split()[0], line.split()[-1]) for line in Path("/proc/net/if_inet6").read_text().splitlines()
    ]
    scoped = {f"{ipaddress.IPv6Address(int(digits, 16))}%{interface}" for digits, interface in six}
    plain = {address.partition("%")[0] if not address.startswith("fe80") else address for address in scoped}
    return sorted(address for address in local | plain if not address.startswith("127.") and address != "::1")


def test_the_device_s_own_addresses_are_as_good_as_loopback() -> None:
    """A server on all interfaces is on this one, too."""
    own = own_addresses()
    possible(bool(own), "own another address than that of loopback")
    everything = rules("*", "0.0.0.0/0", "::/0", loopback=False)
    for address in own:
        with pytest.raises(NotAllowed, match=r"allow\.loopback"):
            everything.check_address("backup.example", address)
        rules("*", "0.0.0.0/0", "::/0").check_address("backup.example", address)
        if "%" not in address:
            url = f"http://[{address}]/" if ":" in address else f"http://{address}/"
            assert not allows(everything, url)
            assert not allows(everything, url, by_proxy=True)


@pytest.mark.parametrize("address", ["203.0.113.7", "2001:db8::7", "198.51.100.255"])
def test_an_address_of_somebody_else_is_not_the_device_itself(address: str) -> None:
    rules(loopback=False).check_address("backup.example", address)


def test_an_own_address_inside_one_of_ipv6_is_the_device_too() -> None:
    own = [address for address in own_addresses() if ":" not in address]
    possible(bool(own), "own another address of IPv4 than that of loopback")
    with pytest.raises(NotAllowed, match=r"allow\.loopback"):
        rules(loopback=False).check_address("backup.example", f"::ffff:{own[0]}")
