{#- Minions take our own modules, what these import, states and beacons along; see autoload_dynamic_modules in _clouds/openstack.py.
    Without the environment's name Salt would render this file to learn it, and that this file again. -#}
{%- if 'managed_k8s_facts.has_extensions' not in salt or not salt['managed_k8s_facts.has_extensions']() %}
{%- do salt['saltutil.sync_utils']('base', refresh=False) -%}
{%- do salt['saltutil.sync_modules']('base') -%}
{%- do salt['saltutil.sync_states']('base') -%}
{%- do salt['saltutil.sync_beacons']('base') -%}
{%- endif %}
# A role is in a minion's id, which the Salt master gave; never in a grain, which the minion chooses.
base:
  '*-gateway-*':
    - gateway
  '*-master-*':
    - master
  '*-worker-*':
    - worker
