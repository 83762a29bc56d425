"""What a request looks like to a process that has seen nothing yet."""

from handler.data.live import Live
from handler.data.outlook import Outlook, look_ahead
from handler.data.sessions import Recalled
from handler.data.speeds import Speeds
from handler.flow import Ask


def cold(ask: Ask, live: Live) -> Outlook:
    return look_ahead(ask, live.fleet.fleet.models, Recalled(), Speeds(None), now=0.0)
