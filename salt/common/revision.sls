# The reconciler compares this with what the server should be made from. Nothing after a failed state gets here.
Note what this server was made from:
  file.managed:
    - name: /etc/managed-k8s/revision
    - contents: {{ pillar['managed_k8s']['revision'] }}
    - mode: '0644'
    - order: last
    - failhard: True

# A minion knows its beacons from the pillar that it has in memory.
Ask for the pillar anew:
  module.run:
    - saltutil.refresh_pillar: []
    - onchanges:
      - file: Note what this server was made from
    - order: last
