"""Whose order opens the log again at another origin: two people's, by keys that the host pins and the policy names and does not revoke."""

import pytest

from gatekeeper.exits import Failure
from gatekeeper.model.moment import later, render_moment
from gatekeeper.model.uris import LOG_ORDER
from gatekeeper.policy.revocations import key_line
from gatekeeper.reopen import believed
from gatekeeper.tlog.note import encode_vkey, parse_vkey
from gatekeeper.verify.order import LogOrder, OrderAction, encode_log_order
from tests.fakes import signing
from tests.fakes.frames import MemoryLog
from tests.fakes.house import INSTANCE, House
from tests.fakes.orders import signed

AT = signing.RECEIVED


def test_whose_key_the_policy_revokes_opens_nothing_again():
    house, key = House(), parse_vkey(encode_vkey(MemoryLog().vkey))
    people = {name: house.reviewers[name] for name in ("alice", "bob")}
    keys = {name: (person.public,) for name, person in people.items()}
    order = LogOrder(OrderAction.REOPEN, INSTANCE, key.name, {"next": f"{key.name}b"}, "lost", later(AT, seconds=60))
    data = signed(encode_log_order(order), *(person.key for person in people.values()), payload_type=LOG_ORDER)
    for since, refused in ((AT, True), (later(AT, seconds=1), False)):
        row = f'[[revoked]]\nkey = "{key_line(people["bob"].public)}"\nfrom = {render_moment(since)}\nreason = "lost"\n'
        house.policy.files["revocations.toml"] = row.encode()
        house.policy.load()
        asked = (data, "lost", INSTANCE, key, keys, house.policy.current(), AT)
        if refused:
            with pytest.raises(Failure, match="order-signers"):
                believed(*asked)
        else:
            assert believed(*asked)[0].signers == ("alice", "bob")
