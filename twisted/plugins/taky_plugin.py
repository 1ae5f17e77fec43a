"""What Twisted finds of us: ``twistd taky`` and the ``taktls:`` endpoint. Imports nothing heavy."""

from twisted.application.service import ServiceMaker

from taky_twisted.endpoints import TakTLSParser

taky = ServiceMaker("taky", "taky_twisted.tap", "A TAK server for ATAK, WinTAK, iTAK and other CoT clients.", "taky")
taktls = TakTLSParser()
