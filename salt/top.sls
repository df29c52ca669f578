{#- Minions take our own modules and states along; see autoload_dynamic_modules in _clouds/openstack.py. -#}
{%- do salt['saltutil.sync_modules']() -%}
{%- do salt['saltutil.sync_states']() -%}
# A role is in a minion's id, which the Salt master gave; never in a grain, which the minion chooses.
base:
  '*-gateway-*':
    - gateway
  '*-master-*':
    - master
  '*-worker-*':
    - worker
