#!/usr/bin/python3
"""Octavia's API 11, of Debian 12, for tests: sqlite, no Keystone, its no-op driver.

The API is the real one: it validates, keeps states, and refuses. What Octavia's
worker and its amphorae would do, a thread does here after DELAY seconds: what is
PENDING becomes ACTIVE or goes away. Ports for addresses are Neutron's, as they
are with a real driver.

ROOT is where the packages were unpacked, STATE a folder for this process, PORT
and NEUTRON_PORT are of the loopback.
"""
import json
import os
import site
import sys
import threading
import time
import traceback
import types
import urllib.error
import urllib.request

ROOT, STATE = os.environ['ROOT'], os.environ['STATE']
PORT, NEUTRON_PORT = int(os.environ['PORT']), int(os.environ['NEUTRON_PORT'])
DELAY = float(os.environ['DELAY'])
site.addsitedir(ROOT + '/usr/lib/python3/dist-packages')

with open(STATE + '/octavia.conf', 'w') as f:
    f.write('''[DEFAULT]
transport_url = fake://
[database]
connection = sqlite:///%s/octavia.sqlite
[api_settings]
auth_strategy = noauth
default_provider_driver = noop_driver
enabled_provider_drivers = noop_driver:noop
bind_port = %d
[controller_worker]
network_driver = network_noop_driver
[oslo_policy]
[oslo_concurrency]
lock_path = %s
''' % (STATE, PORT, STATE))

from octavia.api import app as octavia_app  # noqa: E402
from octavia.api.drivers.noop_driver import driver as noop  # noqa: E402
from octavia.db import api as db_api, base_models, models  # noqa: E402
from octavia_lib.api.drivers import data_models, exceptions  # noqa: E402
from sqlalchemy import event  # noqa: E402
from sqlalchemy.engine import Engine  # noqa: E402


@event.listens_for(Engine, 'connect')
def unsafe(connection, _):
    """Has sqlite not wait for the disk: nothing is to outlive the tests."""
    for pragma in 'journal_mode = WAL', 'synchronous = OFF', 'busy_timeout = 60000':
        connection.execute('PRAGMA ' + pragma)


# The rows that Octavia's migrations would make are made by its own tests' base,
# which wants oslotest to be there.
base = types.ModuleType('oslotest.base')
base.BaseTestCase = object
oslotest = types.ModuleType('oslotest')
oslotest.base = base
sys.modules['oslotest'], sys.modules['oslotest.base'] = oslotest, base
from octavia.tests.functional.db.base import OctaviaDBTestBase  # noqa: E402


class Seeder:
    _seed_lookup_table = OctaviaDBTestBase._seed_lookup_table
    _seed_lookup_tables = OctaviaDBTestBase._seed_lookup_tables


def neutron(method, path, project, body=None):
    """Calls Neutron as Octavia's network driver would."""
    request = urllib.request.Request(
        'http://127.0.0.1:%d/v2.0%s' % (NEUTRON_PORT, path), method=method,
        data=json.dumps(body).encode() if body else None,
        headers={'Content-Type': 'application/json', 'X-Project-Id': project, 'X-Roles': 'admin', 'X-User-Id': 'octavia'})
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read()
        return json.loads(text) if text else {}


def create_vip_port(self, loadbalancer_id, project_id, vip, additional):
    """Makes the port of an address, in Neutron, on the subnet that was asked for."""
    if vip.get('vip_port_id'):
        port = neutron('GET', '/ports/' + vip['vip_port_id'], project_id)['port']
    else:
        try:
            if vip.get('vip_subnet_id'):
                subnet = neutron('GET', '/subnets/' + vip['vip_subnet_id'], project_id)['subnet']
            else:
                subnet = neutron('GET', '/subnets?network_id=' + vip['vip_network_id'], project_id)['subnets'][0]
            fixed = {'subnet_id': subnet['id']}
            if vip.get('vip_address'):
                fixed['ip_address'] = vip['vip_address']
            port = neutron('POST', '/ports', project_id, {'port': {
                'tenant_id': project_id, 'network_id': subnet['network_id'], 'fixed_ips': [fixed],
                'name': 'octavia-lb-' + loadbalancer_id, 'device_id': 'lb-' + loadbalancer_id, 'device_owner': 'Octavia'}})['port']
        except urllib.error.HTTPError as e:
            raise exceptions.DriverError(user_fault_string=e.read().decode(), operator_fault_string=str(e))
    ip = port['fixed_ips'][0]
    made = data_models.VIP(vip_address=ip['ip_address'], vip_network_id=port['network_id'], vip_port_id=port['id'], vip_subnet_id=ip['subnet_id'])
    return made.to_dict(), []


noop.NoopProviderDriver.create_vip_port = create_vip_port
app = octavia_app.setup_app(argv=['octavia-api', '--config-file', STATE + '/octavia.conf'])
base_models.BASE.metadata.create_all(db_api.get_engine())
Seeder()._seed_lookup_tables(db_api.get_session())


def children(session, lb):
    """Gives all rows that are in a load balancer, what is in another one first."""
    pools = session.query(models.Pool).filter_by(load_balancer_id=lb.id).all()
    for pool in pools:
        yield from session.query(models.HealthMonitor).filter_by(pool_id=pool.id).all()
        yield from session.query(models.Member).filter_by(pool_id=pool.id).all()
    yield from session.query(models.Listener).filter_by(load_balancer_id=lb.id).all()
    yield from pools


def finish(session, lb):
    """Does what the worker would have done to a load balancer."""
    gone = lb.provisioning_status == 'PENDING_DELETE'
    for row in list(children(session, lb)):
        if gone or row.provisioning_status == 'PENDING_DELETE':
            session.delete(row)
            session.flush()
        elif row.provisioning_status.startswith('PENDING'):
            row.provisioning_status, row.operating_status = 'ACTIVE', 'ONLINE'
    if not gone:
        lb.provisioning_status, lb.operating_status = 'ACTIVE', 'ONLINE'
        return
    try:
        neutron('DELETE', '/ports/' + lb.vip.port_id, lb.project_id)
    except urllib.error.HTTPError as e:
        if e.code != 404:
            raise
    lb.provisioning_status = 'DELETED'


def work():
    seen = {}
    while True:
        time.sleep(0.05)
        session = db_api.get_session(autocommit=False)
        try:
            pending = session.query(models.LoadBalancer).filter(models.LoadBalancer.provisioning_status.like('PENDING%')).all()
            for lb in pending:
                since = seen.setdefault((lb.id, lb.provisioning_status), time.time())
                if time.time() - since >= DELAY:
                    del seen[(lb.id, lb.provisioning_status)]
                    finish(session, lb)
                    session.commit()
        except Exception:
            traceback.print_exc()
            session.rollback()
        finally:
            session.close()


threading.Thread(target=work, daemon=True).start()

from socketserver import ThreadingMixIn  # noqa: E402
from wsgiref.simple_server import make_server, WSGIServer, WSGIRequestHandler  # noqa: E402


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Handler(WSGIRequestHandler):
    def log_message(self, *args):
        pass

    def address_string(self):
        return self.client_address[0]


server = make_server('127.0.0.1', PORT, app, Server, Handler)
print('ready', flush=True)  # it listens: no call is refused from here on
server.serve_forever()
