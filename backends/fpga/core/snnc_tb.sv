// Test bench for Verilator and Icarus: sends images of stimulus.hex, writes scores, states of populations and what
// was counted to files. Arguments: +rows=N +inputs=N +outputs=N, +stall=SEED for random pauses on both streams,
// +reset=CYCLE for a reset in the first image, +states=0, +vcd.
`timescale 1ns / 1ps
`include "network.vh"

module snnc_tb;
    reg clk = 0, rst = 1;
    always #5 clk = ~clk;

    reg [15:0] stimulus [0:`SNNC_STIMULUS-1];
    integer rows, inputs, outputs, stall, reset_at, states;
    integer scores_file, states_file, counts_file;

    reg [15:0] s_tdata = 0;
    reg s_tvalid = 0, s_tlast = 0, m_tready = 0, taken = 0;
    wire s_tready, m_tvalid, m_tlast, mark;
    wire [31:0] m_tdata;
    wire [15:0] mark_id;

    integer filled = 0;        // values of external.hex that were sent, before any image
`ifdef SNNC_EXTERNAL
    reg [15:0] external [0:`SNNC_EXTERNAL-1];
    wire filling = filled < `SNNC_EXTERNAL;
    initial $readmemh("external.hex", external);

    wire [3:0] command;
    wire [1:0] bank;
    wire [12:0] address;
    wire drive;
    wire [15:0] to_chip, from_chip;

    snnc_sdram_model #(.DEPTH(`SNNC_EXTERNAL), .POWER(`SNNC_POWER), .REFRESH(`SNNC_REFRESH)) chip (
        .clk(!clk), .command(command), .bank(bank), .address(address), .drive(drive), .to_chip(to_chip),
        .from_chip(from_chip)
    );
`else
    wire filling = 0;
`endif

    snnc_network dut (
        .clk(clk), .rst(rst), .s_tdata(s_tdata), .s_tvalid(s_tvalid), .s_tlast(s_tlast), .s_tready(s_tready),
        .m_tdata(m_tdata), .m_tvalid(m_tvalid), .m_tlast(m_tlast), .m_tready(m_tready), .mark(mark),
        .mark_id(mark_id)
`ifdef SNNC_EXTERNAL
        , .sdram_command(command), .sdram_bank(bank), .sdram_address(address), .sdram_drive(drive),
        .sdram_to_chip(to_chip), .sdram_from_chip(from_chip)
`endif
    );

    initial begin
        if (!$value$plusargs("rows=%d", rows)) rows = 1;
        if (!$value$plusargs("inputs=%d", inputs)) inputs = 1;
        if (!$value$plusargs("outputs=%d", outputs)) outputs = 1;
        if (!$value$plusargs("stall=%d", stall)) stall = 0;
        if (!$value$plusargs("reset=%d", reset_at)) reset_at = 0;
        if (!$value$plusargs("states=%d", states)) states = 1;
        $readmemh("stimulus.hex", stimulus, 0, rows * inputs - 1);
        scores_file = $fopen("scores.txt", "w");
        states_file = $fopen("states.txt", "w");
        counts_file = $fopen("counts.txt", "w");
        if ($test$plusargs("vcd")) begin
            $dumpfile("snnc.vcd");
            $dumpvars(0, snnc_tb);
        end
    end

    // A pseudo-random number per cycle
    reg [31:0] noise = 32'h2545F491;
    wire pause = stall != 0 && noise[1:0] != 0;
    wire deaf = stall != 0 && noise[9:8] != 0;

    integer cycle = 0, sent = 0, got = 0, row = 0, begun = 0, k;
    integer taps = 0, weights = 0, v_reads = 0, v_writes = 0, s_reads = 0, s_writes = 0, n_reads = 0, n_writes = 0;
    integer events = 0, adding = 0, firing = 0;

    always @(posedge clk) begin
        cycle <= cycle + 1;
        noise <= cycle == 0 ? 32'h2545F491 ^ stall : {noise[30:0], noise[31] ^ noise[21] ^ noise[1] ^ noise[0]};
        rst <= cycle < 4 || (reset_at != 0 && cycle >= reset_at && cycle < reset_at + 3);
        taken <= s_tvalid && s_tready;
        if (s_tvalid && s_tready && filling) filled <= filled + 1;
        else if (s_tvalid && s_tready) begin
            if (sent % inputs == 0) begun <= cycle;
            sent <= sent + 1;
        end
        if (m_tvalid && m_tready) begin
            $fwrite(scores_file, "%0d\n", $signed(m_tdata));
            got <= got + 1;
            if (m_tlast != ((got + 1) % outputs == 0)) $display("FAULT: tlast after score %0d", got);
            if ((got + 1) % outputs == 0) begin
                row <= row + 1;
                $fwrite(counts_file, "%0d %0d %0d %0d %0d %0d %0d %0d %0d %0d %0d %0d\n", cycle - begun, taps, weights,
                    v_reads, v_writes, s_reads, s_writes, n_reads, n_writes, events, adding, firing);
                if (row == rows - 1) begin
                    $display("DONE");
                    $finish;
                end
            end
        end
        if (rst && cycle > 4) begin // the image begins anew
            $fwrite(states_file, "reset\n");
            filled <= 0;
            sent <= row * inputs;
            got <= row * outputs;
        end
        if (cycle == 2000000000) begin
            $display("FAULT: no end");
            $finish;
        end
    end

    // Drivers change between the edges.
    always @(negedge clk) begin
        if (!s_tvalid || taken || rst) begin // what is offered stays until it is taken
            s_tvalid <= !rst && (filling || sent < rows * inputs) && !pause;
            s_tdata <= stimulus[sent < rows * inputs ? sent : 0];
            s_tlast <= !filling && sent % inputs == inputs - 1;
`ifdef SNNC_EXTERNAL
            if (filling) s_tdata <= external[filled];
`endif
        end
        m_tready <= !deaf;
    end

`ifndef SNNC_NETLIST
    // What happens inside; a netlist has other names there
    always @(posedge clk) if (!rst) begin
        if (dut.core.tap) taps <= taps + 1;
        if (dut.core.weight_read) weights <= weights + 1;
        if (dut.core.lanes_read || dut.core.fire_read) v_reads <= v_reads + 1;
        if (dut.core.lanes_write || dut.core.fire_write) v_writes <= v_writes + 1;
        if (dut.core.s_read) s_reads <= s_reads + 1;
        if (dut.core.s_write) s_writes <= s_writes + 1;
        if (dut.core.n_read) n_reads <= n_reads + 1;
        if (dut.core.n_write) n_writes <= n_writes + 1;
        if (dut.core.push) events <= events + 1;
        if (dut.core.scan_busy || dut.core.taps_busy || dut.core.lanes_busy) adding <= adding + 1;
        if (dut.core.fire_busy) firing <= firing + 1;
        if (mark && states != 0) begin
            $fwrite(states_file, "population %0d\n", mark_id);
            for (k = 0; k < 32'(dut.core.pixels) * 32'(dut.core.blocks); k = k + 1)
                $fwrite(states_file, "%h %h\n", dut.core.potentials.mem[k + 32'(dut.core.potential)],
                    dut.core.counts.mem[k]);
        end
    end
`endif
endmodule
