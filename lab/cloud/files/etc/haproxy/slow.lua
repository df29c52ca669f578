-- Hold a request back for txn.delay milliseconds; others go on meanwhile.
core.register_action("slow", { "http-req" }, function(txn)
    core.msleep(tonumber(txn:get_var("txn.delay")) or 0)
end)
