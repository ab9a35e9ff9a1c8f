#!/usr/bin/python3
"""Neutron 21, of Debian 12, for tests: sqlite, no Keystone, no agents.

ROOT is where the packages were unpacked, STATE a folder for this process, PORT
of the loopback. Once it serves it ignores SIGTERM.
"""
import os
import site

ROOT, STATE, PORT = os.environ['ROOT'], os.environ['STATE'], int(os.environ['PORT'])
site.addsitedir(ROOT + '/usr/lib/python3/dist-packages')

with open(ROOT + '/usr/share/neutron-common/api-paste.ini') as f:
    paste = f.read()
with open(STATE + '/api-paste.ini', 'w') as f:
    f.write(paste)
with open(STATE + '/neutron.conf', 'w') as f:
    f.write('''[DEFAULT]
transport_url = fake://
core_plugin = ml2
service_plugins = router
auth_strategy = noauth
api_paste_config = %(state)s/api-paste.ini
state_path = %(state)s
notify_nova_on_port_status_changes = false
notify_nova_on_port_data_changes = false
[database]
connection = sqlite:///%(state)s/neutron.sqlite
[quotas]
quota_network = -1
quota_subnet = -1
quota_port = -1
quota_router = -1
quota_floatingip = -1
[oslo_concurrency]
lock_path = %(state)s
[ml2]
type_drivers = flat,vlan,local,vxlan
tenant_network_types = local
mechanism_drivers = logger
[ml2_type_flat]
flat_networks = *
[oslo_policy]
''' % {'state': STATE})

from neutron.common import config  # noqa: E402
config.register_common_config_options()
config.init(['--config-file', STATE + '/neutron.conf'])
from neutron.db.migration.models import head  # noqa: E402
from neutron_lib.db import api as db_api  # noqa: E402
from sqlalchemy import event  # noqa: E402
from sqlalchemy.engine import Engine  # noqa: E402


@event.listens_for(Engine, 'connect')
def unsafe(connection, _):
    """Has sqlite not wait for the disk: nothing is to outlive the tests."""
    for pragma in 'journal_mode = WAL', 'synchronous = OFF', 'busy_timeout = 60000':
        connection.execute('PRAGMA ' + pragma)


head.get_metadata().create_all(db_api.get_writer_session().get_bind() if hasattr(db_api, 'get_writer_session')
                               else db_api.get_context_manager().writer.get_engine())
app = config.load_paste_app('neutron')

from wsgiref.simple_server import make_server, WSGIServer, WSGIRequestHandler  # noqa: E402


class Handler(WSGIRequestHandler):
    def log_message(self, *args):
        pass

    def address_string(self):
        return self.client_address[0]


server = make_server('127.0.0.1', PORT, app, WSGIServer, Handler)
print('ready', flush=True)  # it listens: no call is refused from here on
server.serve_forever()
